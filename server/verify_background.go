package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/server/verify"
)

// The check in the background (verify-rate): a replica compares itself with the primary at the head of its chain, pass after
// pass, as holdfast verify does it, but slowly. It finds what no checksum can: memory that has changed, a bug in replication.

const (
	// verifyPause is from the end of a pass to the next one: a pass costs every server of the chain a checkpoint.
	verifyPause = time.Minute
	// verifyLook is how often it is looked whether the check has been turned on.
	verifyLook = time.Second
)

// verifyState is what the check has found.
type verifyState struct {
	mu          sync.Mutex
	running     bool
	passes      int64
	last        *verify.Report // of the newest pass that came to its end; nil: none
	ended       time.Time      // of last
	differences int64          // found in all passes
	err         string         // why the newest pass did not come to its end; "" if it did
}

// info writes the fields of INFO.
func (v *verifyState) info(i *infoWriter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	last := v.last
	if last == nil {
		last = &verify.Report{Offset: -1}
	}
	i.flag("verify_in_progress", v.running)
	i.field("verify_passes", v.passes)
	i.field("verify_last_offset", last.Offset)
	i.field("verify_last_keys", last.Keys)
	i.field("verify_last_differences", last.Differing)
	ended := int64(-1)
	if v.last != nil {
		ended = v.ended.Unix()
	}
	i.field("verify_last_time", ended)
	i.field("verify_last_ms", last.Elapsed.Milliseconds())
	i.field("verify_differences", v.differences)
	i.field("verify_last_error", oneLine(v.err))
}

// verifyLoop runs pass after pass while this is a replica and verify-rate says so.
func (s *Server) verifyLoop() {
	for {
		wait := verifyLook
		if s.cfg.Int("verify-rate") > 0 && s.repl.following.Load() != nil {
			s.verifyPass(s.ctx, s.verifyRate)
			wait = verifyPause
		}
		for ; wait > 0; wait -= verifyLook {
			if sleepFor(s.ctx, verifyLook) != nil {
				return
			}
			if s.cfg.Int("verify-rate") == 0 {
				break // turned on again it begins at once
			}
		}
	}
}

func sleepFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// verifyRate is verify-rate as long as this is a replica, then 0.
func (s *Server) verifyRate() int64 {
	if s.repl.following.Load() == nil {
		return 0
	}
	return s.cfg.Int("verify-rate")
}

// verifyPass compares everything once, at a rate, and notes what it has found.
func (s *Server) verifyPass(ctx context.Context, rate func() int64) {
	v := &s.verifying
	v.mu.Lock()
	v.running = true
	v.mu.Unlock()

	var open []*verify.Client
	b := verify.Background{Self: verifySelf{s}, Sleep: sleepFor, Now: time.Now, Rate: rate,
		Dial: func(addr string) (verify.Server, error) {
			c := verify.Connect(addr, verify.Access{User: s.cfg.Text("masteruser"), Password: s.cfg.Text("masterauth"), Dial: s.dialPrimary})
			open = append(open, c)
			return c, nil
		}}
	report, err := b.Pass(ctx)
	for _, c := range open {
		if cerr := c.Close(); cerr != nil && err == nil {
			err = cerr
		}
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	v.running = false
	if err != nil {
		if errors.Is(err, verify.ErrOff) || ctx.Err() != nil {
			return
		}
		if v.err != err.Error() { // once, not once a minute
			s.log.Warn("comparing with the primary did not come to its end", "error", err)
		}
		v.err = err.Error()
		return
	}
	v.err = ""
	v.passes++
	v.last, v.ended = report, time.Now()
	v.differences += report.Differing
	if !report.Same() {
		kinds := map[string]int{}
		for _, d := range report.Differences {
			kinds[d.How]++
		}
		s.log.Error("data differ from the primary's; holdfast verify names the keys", "primary", report.Servers[0].Addr, "offset", report.Offset,
			"keys", report.Differing, "missing", kinds[verify.Missing], "extra", kinds[verify.Extra], "type", kinds[verify.Type],
			"value", kinds[verify.Value], "ttl", kinds[verify.TTL])
		return
	}
	s.log.Info("data are the primary's", "primary", report.Servers[0].Addr, "offset", report.Offset, "keys", report.Keys, "elapsed-ms", report.Elapsed.Milliseconds())
}

// verifySelf answers for this server what verify asks, without a connection.
type verifySelf struct{ s *Server }

// Addr implements verify.Server.
func (v verifySelf) Addr() string { return "this server" }

// Pipeline implements verify.Server; marks need none.
func (v verifySelf) Pipeline(context.Context, [][]any) ([]any, error) {
	return nil, errors.New("a server does not scan itself")
}

// Do implements verify.Server for INFO and the subcommands of HOLDFAST that a comparison at a mark needs.
func (v verifySelf) Do(ctx context.Context, args ...any) (any, error) {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = fmt.Sprint(a)
	}
	if words[0] == "INFO" {
		return v.info(), nil
	}
	if len(words) < 3 || words[0] != "HOLDFAST" {
		return nil, fmt.Errorf("%v is not asked of oneself", words)
	}
	if words[1] == "UNMARK" {
		v.s.eng.Unmark(words[2])
		return "OK", nil
	}
	wait := time.Duration(0)
	if words[1] == "MARKED" && len(words) == 4 {
		ms, err := strconv.ParseInt(words[3], 10, 64)
		if err != nil {
			return nil, err
		}
		wait = time.Duration(ms) * time.Millisecond
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	m, err := v.s.eng.MarkView(waiting, words[2])
	if err != nil {
		return nil, err
	}
	defer m.Release()
	switch {
	case words[1] == "MARKED" && len(words) == 4:
		dbs := []any{}
		for _, d := range m.Meta.DBs {
			dbs = append(dbs, []any{int64(d.Logical), d.Keys, d.Expires})
		}
		return []any{int64(m.Offset), m.ReplID, dbs}, nil
	case words[1] == "DIGEST" && len(words) == 6:
		db, prefix, err := parsePlace(words[3], words[4])
		if err != nil {
			return nil, err
		}
		depth, err := strconv.Atoi(words[5])
		if err != nil {
			return nil, err
		}
		ds, err := m.Digests(ctx, db, prefix, depth)
		return string(engine.AppendDigests(nil, ds)), err
	case words[1] == "KEYS" && len(words) == 7:
		db, prefix, err := parsePlace(words[3], words[4])
		if err != nil {
			return nil, err
		}
		return selfKeys(ctx, m, db, prefix, words[5], words[6])
	}
	return nil, fmt.Errorf("HOLDFAST %s is not asked of oneself", words[1])
}

func parsePlace(db, prefix string) (int, []byte, error) {
	n, err := strconv.Atoi(db)
	if err != nil {
		return 0, nil, err
	}
	place, err := hex.DecodeString(prefix)
	return n, place, err
}

// selfKeys is HOLDFAST KEYS.
func selfKeys(ctx context.Context, m *engine.MarkView, db int, prefix []byte, after, count string) (any, error) {
	n, err := strconv.Atoi(count)
	if err != nil {
		return nil, err
	}
	from, err := hex.DecodeString(after)
	if err != nil {
		return nil, err
	}
	if len(from) == 0 {
		from = nil
	}
	keys, next, err := m.Keys(ctx, db, prefix, from, n)
	if err != nil {
		return nil, err
	}
	list := make([]any, len(keys))
	for i, k := range keys {
		list[i] = []any{string(k.Key), hex.EncodeToString(k.Place), k.Type, k.ExpireMs, k.Value.String()}
	}
	return []any{hex.EncodeToString(next), list}, nil
}

// info is what of INFO a comparison reads.
func (v verifySelf) info() string {
	text := "holdfast_version:" + Version + "\r\nrun_id:" + v.s.eng.RunID() + "\r\n"
	t := v.s.repl.following.Load()
	if t == nil {
		return text + "role:master\r\n"
	}
	return text + "role:slave\r\nmaster_host:" + t.Host + "\r\nmaster_port:" + strconv.Itoa(t.Port) + "\r\n"
}
