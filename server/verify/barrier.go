package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/snapshot/digest"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

// A redis-server has no view of its data at an offset: what it holds is compared while nothing changes. Writes on the primary are
// held back, all servers reach its offset, and keys are read from all of them. What expires meanwhile shows as absent to clients
// at the same time on all servers; a key that differs is looked at again at the end.

// settle is how often offsets are asked for while a barrier waits.
const settle = 5 * time.Millisecond

// errPauseOver says that writes went on before all was compared.
var errPauseOver = errors.New("writes were held back as long as allowed, and not all was compared: raise the limit, or compare when less is written")

// rechecks is how often a key that differs is looked at again where writes go on.
const rechecks = 5

// barrier compares servers while writes are held back, or without that if Options say so.
func (c *comparison) barrier(ctx context.Context, primary Server) error {
	start := time.Now()
	if !c.o.NoPause {
		if _, err := primary.Do(ctx, "CLIENT", "PAUSE", c.o.MaxPause.Milliseconds(), "WRITE"); err != nil {
			return fmt.Errorf("%s: holding writes back: %w", primary.Addr(), err)
		}
		defer func() { _, _ = primary.Do(context.WithoutCancel(ctx), "CLIENT", "UNPAUSE") }() // ends by itself
	}
	offset, err := c.settle(ctx, primary)
	if err != nil {
		return err
	}
	c.report.Offset = offset
	dbs, err := c.databases(ctx)
	if err != nil {
		return err
	}
	for _, db := range dbs {
		if err := c.scan(ctx, db); err != nil {
			return err
		}
	}
	if c.o.NoPause {
		c.report.Guarantee = "not a proof: writes went on while keys were read; those that differed were looked at again, " +
			strconv.Itoa(rechecks) + " times"
		return nil
	}
	took := time.Since(start)
	if took >= c.o.MaxPause {
		return errPauseOver
	}
	for i, s := range c.servers {
		info, err := serverInfo(ctx, s)
		if err != nil {
			return err
		}
		if n, _ := strconv.ParseInt(info["master_repl_offset"], 10, 64); n != c.report.Servers[i].Offset && !onlyPings(n-c.report.Servers[i].Offset) {
			return fmt.Errorf("%s: the stream went on, from %d to %d: others than clients write", s.Addr(), c.report.Servers[i].Offset, n)
		}
	}
	c.report.Guarantee = fmt.Sprintf("exact: all servers were compared at offset %d while writes were held back for %v", offset, took.Round(time.Millisecond))
	return nil
}

// onlyPings tells whether so many bytes of stream can be nothing but what a primary sends by itself: PINGs of 14 bytes and
// questions for acknowledgements of 37.
func onlyPings(n int64) bool {
	for ; n >= 0; n -= 37 {
		if n%14 == 0 {
			return true
		}
	}
	return false
}

// settle waits until all servers stand at the primary's offset, and returns it.
func (c *comparison) settle(ctx context.Context, primary Server) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Wait)
	defer cancel()
	for {
		info, err := serverInfo(ctx, primary)
		if err != nil {
			return 0, err
		}
		want := info["master_repl_offset"]
		behind := ""
		for i, s := range c.servers {
			info, err := serverInfo(ctx, s)
			if err != nil {
				return 0, err
			}
			st := &c.report.Servers[i]
			st.ReplID = info["master_replid"]
			st.Offset, _ = strconv.ParseInt(info["master_repl_offset"], 10, 64)
			if info["master_repl_offset"] != want {
				behind = s.Addr()
			}
		}
		if behind == "" || c.o.NoPause {
			return strconv.ParseInt(want, 10, 64)
		}
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return 0, fmt.Errorf("%s does not reach the primary's offset %s", behind, want)
		}
	}
}

// databases returns the databases in which any server has keys.
func (c *comparison) databases(ctx context.Context) ([]int, error) {
	found := map[int]bool{}
	for i, s := range c.servers {
		info, err := serverInfo(ctx, s)
		if err != nil {
			return nil, err
		}
		for name, text := range info {
			db, err := strconv.Atoi(strings.TrimPrefix(name, "db"))
			if !strings.HasPrefix(name, "db") || err != nil {
				continue
			}
			found[db] = true
			for f := range strings.SplitSeq(text, ",") {
				if n, ok := strings.CutPrefix(f, "keys="); ok {
					keys, _ := strconv.ParseInt(n, 10, 64)
					c.report.Servers[i].Keys += keys
				}
			}
		}
	}
	c.report.Keys = c.report.Servers[0].Keys
	var dbs []int
	for db := range found {
		dbs = append(dbs, db)
	}
	slices.Sort(dbs)
	return dbs, nil
}

// scanCount is how many keys are compared together.
const scanCount = 500

// scan compares one database: the keys of the first server with those of the others, then the others' keys with the first's.
func (c *comparison) scan(ctx context.Context, db int) error {
	for _, s := range c.servers {
		if _, err := s.Do(ctx, "SELECT", db); err != nil {
			return fmt.Errorf("%s: %w", s.Addr(), err)
		}
	}
	n := 0
	err := c.eachBatch(ctx, c.servers[0], func(keys []string) error {
		n += len(keys)
		if n%(100*scanCount) < scanCount {
			c.o.Progress(fmt.Sprintf("database %d: %d keys", db, n))
		}
		return c.batch(ctx, db, keys, false)
	})
	if err != nil {
		return err
	}
	for _, s := range c.servers[1:] {
		err := c.eachBatch(ctx, s, func(keys []string) error {
			commands := make([][]any, len(keys))
			for i, k := range keys {
				commands[i] = []any{"EXISTS", k}
			}
			there, err := c.servers[0].Pipeline(ctx, commands)
			if err != nil {
				return err
			}
			var extra []string
			for i, r := range there {
				if n, _ := r.(int64); n == 0 {
					extra = append(extra, keys[i])
				}
			}
			if len(extra) == 0 {
				return nil
			}
			return c.batch(ctx, db, extra, true)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) eachBatch(ctx context.Context, s Server, visit func(keys []string) error) error {
	for cursor := "0"; ; {
		r, err := s.Do(ctx, "SCAN", cursor, "COUNT", scanCount)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Addr(), err)
		}
		a, ok := r.([]any)
		if !ok || len(a) != 2 {
			return fmt.Errorf("%s: unexpected reply to SCAN: %v", s.Addr(), r)
		}
		cursor, _ = a[0].(string)
		list, _ := a[1].([]any)
		keys := make([]string, 0, len(list))
		for _, k := range list {
			if name, ok := k.(string); ok {
				keys = append(keys, name)
			}
		}
		if len(keys) > 0 {
			if err := visit(keys); err != nil {
				return err
			}
		}
		if cursor == "0" {
			return nil
		}
	}
}

// batch compares keys on all servers. Those that differ are looked at again: once, for a key may have expired between two
// servers; more often where writes go on. extraOnly: differences other than extra keys were found before.
func (c *comparison) batch(ctx context.Context, db int, keys []string, extraOnly bool) error {
	tries := 2
	if c.o.NoPause {
		tries = rechecks
	}
	for try := 1; ; try++ {
		replies, err := c.each(func(s Server) (any, error) { return readKeys(ctx, s, db, keys) })
		if err != nil {
			return err
		}
		var differ []string
		first := replies[0].(map[string]listed)
		for _, k := range keys {
			x, ok := first[k]
			for _, r := range replies[1:] {
				if y, there := r.(map[string]listed)[k]; there != ok || x != y {
					differ = append(differ, k)
					break
				}
			}
		}
		if len(differ) == 0 {
			return nil
		}
		if keys = differ; try < tries {
			continue
		}
		for i, r := range replies[1:] {
			a, b := map[string]listed{}, map[string]listed{}
			for _, k := range differ {
				if x, ok := first[k]; ok {
					a[k] = x
				}
				if y, ok := r.(map[string]listed)[k]; ok {
					b[k] = y
				}
			}
			if extraOnly {
				a = map[string]listed{}
			}
			c.compare(c.servers[i+1].Addr(), db, a, b)
		}
		return nil
	}
}

// readKeys reads keys as clients do; those that do not exist are left out.
func readKeys(ctx context.Context, s Server, db int, keys []string) (map[string]listed, error) {
	commands := make([][]any, 0, 2*len(keys))
	for _, k := range keys {
		commands = append(commands, []any{"TYPE", k}, []any{"PEXPIRETIME", k})
	}
	heads, err := s.Pipeline(ctx, commands)
	if err != nil {
		return nil, err
	}
	out := map[string]listed{}
	var names []string
	commands = commands[:0]
	for i, k := range keys {
		typ, _ := heads[2*i].(string)
		expire, _ := heads[2*i+1].(int64)
		read := map[string][]any{"string": {"GET", k}, "list": {"LRANGE", k, 0, -1}, "set": {"SMEMBERS", k}, "hash": {"HGETALL", k},
			"zset": {"ZRANGE", k, 0, -1, "WITHSCORES"}}[typ]
		if read == nil {
			if typ != "none" {
				return nil, fmt.Errorf("key %q is a %s, which cannot be compared", k, typ)
			}
			continue
		}
		out[k] = listed{typ: typ, expire: max(expire, 0)}
		names = append(names, k)
		commands = append(commands, read)
	}
	values, err := s.Pipeline(ctx, commands)
	if err != nil {
		return nil, err
	}
	var h digest.KeyHasher
	for i, k := range names {
		h.Reset(db, []byte(k), 0)
		l := out[k]
		if err := feed(&h, l.typ, values[i]); err != nil {
			return nil, fmt.Errorf("key %q: %w", k, err)
		}
		l.value = h.Sum().String()
		out[k] = l
	}
	return out, nil
}

var errGone = errors.New("changed while it was read")

// feed feeds a reply to the hasher. A key that was gone by then has no value.
func feed(h *digest.KeyHasher, typ string, r any) error {
	if typ == "string" {
		if v, ok := r.(string); ok {
			return h.String([]byte(v))
		}
		return nil
	}
	if err, ok := r.(error); ok {
		if strings.HasPrefix(err.Error(), "WRONGTYPE") {
			return nil // another value by now, which another look will show
		}
		return err
	}
	kinds := map[string]rdb.Kind{"list": rdb.KindList, "set": rdb.KindSet, "hash": rdb.KindHash, "zset": rdb.KindZSet}
	if err := h.Begin(kinds[typ], 0); err != nil {
		return err
	}
	items, _ := r.([]any)
	text := func(i int) []byte {
		v, _ := items[i].(string)
		return []byte(v)
	}
	for i := 0; i < len(items); i++ {
		var err error
		switch typ {
		case "list", "set":
			err = h.Element(text(i))
		case "hash":
			if i+1 == len(items) {
				return errGone
			}
			err = h.Field(text(i), text(i+1))
			i++
		case "zset":
			if i+1 == len(items) {
				return errGone
			}
			var score float64
			if score, err = strconv.ParseFloat(string(text(i+1)), 64); err == nil {
				err = h.Member(text(i), score)
			}
			i++
		}
		if err != nil {
			return err
		}
	}
	return h.End()
}
