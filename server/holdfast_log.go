package server

import (
	"errors"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

// HOLDFAST LOG tells of the log. Offsets are numbers of bytes, as master_repl_offset; times are unix milliseconds.

// cmdHoldfastLog without arguments describes the log; TIME gives the offset from which on the log was written at that time or
// later, OFFSET the time at which the byte behind it was written.
func (s *session) cmdHoldfastLog(args [][]byte) {
	w := s.conn.Out()
	log := s.eng.Log()
	switch {
	case len(args) == 2:
		s.describeLog()
	case len(args) == 4 && isWord(args[2], "time"):
		ms, ok := command.ParseInt(args[3])
		if !ok {
			w.Error(reply.NotInt)
			return
		}
		off, err := log.OffsetAt(time.UnixMilli(ms))
		if err != nil {
			w.Error("ERR " + oneLine(err.Error()))
			return
		}
		w.Int(int64(off))
	case len(args) == 4 && isWord(args[2], "offset"):
		off, ok := command.ParseInt(args[3])
		if !ok {
			w.Error(reply.NotInt)
			return
		}
		at, err := log.TimeAt(wal.Offset(off))
		if err != nil {
			w.Error("ERR " + oneLine(err.Error()))
			return
		}
		w.Int(at.UnixMilli())
	default:
		w.Error(reply.Syntax)
	}
}

func (s *session) describeLog() {
	w := s.conn.Out()
	log := s.eng.Log()
	st := s.eng.Stats()
	holders, err := s.eng.LogHolders()
	if err != nil {
		w.Error("ERR " + oneLine(err.Error()))
		return
	}
	maxBytes, maxAge := log.Retention()
	lineage := log.Lineage()
	fields := []struct {
		name  string
		write func()
	}{
		{"first-offset", func() { w.Int(int64(st.First)) }},
		{"first-time-ms", func() { s.timeOf(st.First) }},
		{"checkpoint-offset", func() { w.Int(int64(st.Checkpoint.Offset)) }},
		{"checkpoint-time-ms", func() { w.Int(st.Checkpoint.End.UnixMilli()) }},
		{"durable-offset", func() { w.Int(int64(st.Durable)) }},
		{"durable-time-ms", func() { s.timeOf(st.Durable - 1) }},
		{"end-offset", func() { w.Int(int64(st.End)) }},
		{"end-time-ms", func() { s.timeOf(log.Written() - 1) }},
		{"bytes", func() { w.Int(int64(st.Durable - st.First)) }},
		{"disk-bytes", func() { w.Int(st.Log.DiskSize) }},
		{"retention-max-bytes", func() { w.Int(maxBytes) }},
		{"retention-max-age-sec", func() { w.Int(int64(maxAge.Seconds())) }},
		{"held-by", func() {
			w.Array(len(holders))
			for _, h := range holders {
				w.Map(2)
				w.BulkString("offset")
				w.Int(int64(h.Offset))
				w.BulkString("reason")
				w.BulkString(h.Why)
			}
		}},
		{"lineage", func() {
			w.Array(len(lineage))
			for _, l := range lineage {
				w.Map(3)
				w.BulkString("replication-id")
				w.BulkString(l.ID)
				w.BulkString("start-offset")
				w.Int(int64(l.Start))
				w.BulkString("end-offset")
				if l.End < 0 {
					w.Null() // the current one
				} else {
					w.Int(int64(l.End))
				}
			}
		}},
	}
	w.Map(len(fields))
	for _, f := range fields {
		w.BulkString(f.name)
		f.write()
	}
}

// timeOf writes when the byte at off was written; null if the log has no such byte on disk, or no longer.
func (s *session) timeOf(off wal.Offset) {
	w := s.conn.Out()
	at, err := s.eng.Log().TimeAt(off)
	switch {
	case err == nil:
		w.Int(at.UnixMilli())
	case errors.Is(err, wal.ErrTrimmed), errors.Is(err, wal.ErrFuture):
		w.Null()
	default:
		s.srv.log.Warn("reading the log's times failed", "offset", int64(off), "error", err)
		w.Null()
	}
}
