package server

import (
	"github.com/holdfast-db/holdfast/replication"
	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
)

// cmdPsyncExplain is HOLDFAST PSYNC-EXPLAIN offset [replication-id]: how the same PSYNC would be answered now. As there, offset is
// the first byte that the replica lacks, counted from 1.
func (s *session) cmdPsyncExplain(args [][]byte) {
	w := s.conn.Out()
	if len(args) > 4 {
		w.Error(reply.Syntax)
		return
	}
	off, ok := command.ParseInt(args[2])
	if !ok {
		w.Error(reply.NotInt)
		return
	}
	id := ""
	if len(args) == 4 {
		id = string(args[3])
	}
	x := s.srv.repl.primary.Explain(id, off)
	decision, why := "full", x.Why
	switch {
	case x.Snapshot:
		why = x.Reason
	case x.Continue:
		decision, why = "continue", x.Reason
	}
	if _, refuse := (&replication.Request{ID: id, Offset: off}).Admit(s.srv.standing()); refuse != "" {
		decision, why = "later", refuse
	}
	w.Map(8)
	w.BulkString("decision")
	w.BulkString(decision)
	w.BulkString("reason")
	w.BulkString(why)
	w.BulkString("could-continue")
	w.Bool(x.Continue)
	w.BulkString("repl-sync-choice")
	w.BulkString(string(x.Choice))
	// Estimates make sense where there is a choice.
	for _, c := range []struct {
		name string
		cost replication.Cost
	}{{"replay", x.Estimate.Replay}, {"snapshot-tables", x.Estimate.Tables}, {"snapshot-rdb", x.Estimate.RDB}} {
		w.BulkString(c.name)
		if !x.Continue || c.cost.Bytes < 0 {
			w.Null()
			continue
		}
		w.Map(4)
		w.BulkString("bytes")
		w.Int(c.cost.Bytes)
		w.BulkString("bytes-per-sec")
		w.Int(int64(c.cost.Rate))
		w.BulkString("rate-measured")
		w.Bool(c.cost.Measured)
		w.BulkString("estimated-ms")
		w.Int(c.cost.Time.Milliseconds())
	}
	w.BulkString("replay-behind-snapshot-bytes")
	w.Int(x.Estimate.Behind)
}
