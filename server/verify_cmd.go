package server

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/server/reply"
)

// What package verify asks of a server: the data at one offset, as digests of ranges and as descriptions of keys.

// cmdMark answers the mark's token and its offset.
func (s *session) cmdMark(_ [][]byte) {
	w := s.conn.Out()
	token, off, err := s.eng.Mark(s.ctx)
	if err != nil {
		w.Error("ERR " + oneLine(err.Error()))
		return
	}
	w.Array(2)
	w.BulkString(token)
	w.Int(int64(off))
}

// markView returns the view of a mark, for which it waits for some time, or answers with an error.
func (s *session) markView(token []byte, wait time.Duration) *engine.MarkView {
	ctx, cancel := context.WithTimeout(s.ctx, wait)
	defer cancel()
	v, err := s.eng.MarkView(ctx, string(token))
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = engine.ErrNoMark
		}
		s.conn.Out().Error("NOMARK " + oneLine(err.Error()))
		return nil
	}
	return v
}

// cmdMarked waits up to some milliseconds for a mark, and tells its offset, the replication id, and its databases: number, keys,
// keys with an expiry.
func (s *session) cmdMarked(args [][]byte) {
	w := s.conn.Out()
	ms, ok := s.waitTimeout(args[3])
	if !ok {
		return
	}
	v := s.markView(args[2], time.Duration(min(ms, int64(time.Hour/time.Millisecond)))*time.Millisecond)
	if v == nil {
		return
	}
	defer v.Release()
	w.Array(3)
	w.Int(int64(v.Offset))
	w.BulkString(v.ReplID)
	w.Array(len(v.Meta.DBs))
	for _, d := range v.Meta.DBs {
		w.Array(3)
		w.Int(int64(d.Logical))
		w.Int(d.Keys)
		w.Int(d.Expires)
	}
}

// rangeArgs reads a database and a place's prefix in hexadecimal.
func (s *session) rangeArgs(db, prefix []byte) (n int, place []byte, ok bool) {
	v, ok := command.ParseInt(db)
	if !ok || v < 0 || v >= int64(s.srv.databases) {
		s.conn.Out().Error(reply.DBIndexOutOfRange)
		return 0, nil, false
	}
	place, err := hex.DecodeString(string(prefix))
	if err != nil || len(place) > engine.PlaceLen {
		s.conn.Out().Error("ERR invalid prefix of a place")
		return 0, nil, false
	}
	return int(v), place, true
}

// cmdDigest: HOLDFAST DIGEST token db prefix depth. The reply is as engine.AppendDigests tells.
func (s *session) cmdDigest(args [][]byte) {
	w := s.conn.Out()
	db, prefix, ok := s.rangeArgs(args[3], args[4])
	if !ok {
		return
	}
	depth, ok := command.ParseInt(args[5])
	if !ok || depth < 1 || depth > 2 {
		w.Error("ERR depth must be 1 or 2")
		return
	}
	v := s.markView(args[2], 0)
	if v == nil {
		return
	}
	defer v.Release()
	digests, err := v.Digests(s.ctx, db, prefix, int(depth))
	if err != nil {
		w.Error("ERR " + oneLine(err.Error()))
		return
	}
	w.Bulk(engine.AppendDigests(nil, digests))
}

// digestKeysMax bounds the keys of one reply.
const digestKeysMax = 10_000

// cmdDigestKeys: HOLDFAST KEYS token db prefix after count. after is what the reply before gave to go on with, "" at first. The reply
// is that and the keys: name, place, type, expiry in unix ms or 0, digest of the value.
func (s *session) cmdDigestKeys(args [][]byte) {
	w := s.conn.Out()
	db, prefix, ok := s.rangeArgs(args[3], args[4])
	if !ok {
		return
	}
	after, err := hex.DecodeString(string(args[5]))
	count, ok := command.ParseInt(args[6])
	if err != nil || !ok || count < 1 {
		w.Error(reply.Syntax)
		return
	}
	if len(after) == 0 {
		after = nil
	}
	v := s.markView(args[2], 0)
	if v == nil {
		return
	}
	defer v.Release()
	keys, next, err := v.Keys(s.ctx, db, prefix, after, int(min(count, digestKeysMax)))
	if err != nil {
		w.Error("ERR " + oneLine(err.Error()))
		return
	}
	w.Array(2)
	w.BulkString(hex.EncodeToString(next))
	w.Array(len(keys))
	for _, k := range keys {
		w.Array(5)
		w.Bulk(k.Key)
		w.BulkString(hex.EncodeToString(k.Place))
		w.BulkString(k.Type)
		w.Int(k.ExpireMs)
		w.BulkString(k.Value.String())
	}
}

func (s *session) cmdUnmark(args [][]byte) {
	s.eng.Unmark(string(args[2]))
	s.conn.Out().OK()
}
