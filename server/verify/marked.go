package verify

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// listKeys is up to how many keys of a range are asked for one by one instead of its parts' digests.
const listKeys = 2048

// marked compares Holdfasts at a mark.
func (c *comparison) marked(ctx context.Context, primary Server) error {
	start := time.Now()
	token, dbs, err := c.mark(ctx, primary)
	defer c.unmark(ctx, primary, token)
	if err != nil {
		return err
	}
	c.report.Waited = time.Since(start)
	for _, db := range dbs {
		if err := c.descend(ctx, token, db, nil); err != nil {
			return err
		}
	}
	c.report.Guarantee = guaranteeAt(c.report.Offset)
	return nil
}

// mark puts a mark into the primary's stream, waits until all servers have it, and returns the databases that have keys. With an
// error, too, a token that is not empty is to be dropped.
func (c *comparison) mark(ctx context.Context, primary Server) (token string, dbs []int, err error) {
	r, err := primary.Do(ctx, "HOLDFAST", "MARK")
	if err != nil {
		return "", nil, fmt.Errorf("%s: mark: %w", primary.Addr(), err)
	}
	a, ok := r.([]any)
	if !ok || len(a) != 2 {
		return "", nil, fmt.Errorf("%s: mark: unexpected reply %v", primary.Addr(), r)
	}
	token, _ = a[0].(string)
	c.report.Offset, _ = a[1].(int64)
	c.o.Progress(fmt.Sprintf("mark at offset %d", c.report.Offset))
	replies, err := c.each(func(s Server) (any, error) {
		return s.Do(ctx, "HOLDFAST", "MARKED", token, c.o.Wait.Milliseconds())
	})
	if err != nil {
		return token, nil, err
	}
	for i, r := range replies {
		st := &c.report.Servers[i]
		a, ok := r.([]any)
		if !ok || len(a) != 3 {
			return token, nil, fmt.Errorf("%s: unexpected reply %v", st.Addr, r)
		}
		st.Offset, _ = a[0].(int64)
		st.ReplID, _ = a[1].(string)
		if st.Offset != c.report.Offset {
			return token, nil, fmt.Errorf("%s took the mark at offset %d, the primary at %d", st.Addr, st.Offset, c.report.Offset)
		}
		list, _ := a[2].([]any)
		for _, d := range list {
			f, _ := d.([]any)
			if len(f) != 3 {
				return token, nil, fmt.Errorf("%s: unexpected reply %v", st.Addr, r)
			}
			db, _ := f[0].(int64)
			keys, _ := f[1].(int64)
			st.Keys += keys
			if keys > 0 && !slices.Contains(dbs, int(db)) {
				dbs = append(dbs, int(db))
			}
		}
	}
	c.report.Keys = c.report.Servers[0].Keys
	slices.Sort(dbs)
	return token, dbs, nil
}

// each asks all servers at once.
func (c *comparison) each(ask func(s Server) (any, error)) ([]any, error) {
	replies := make([]any, len(c.servers))
	errs := make([]error, len(c.servers))
	var wg sync.WaitGroup
	for i, s := range c.servers {
		wg.Go(func() {
			if replies[i], errs[i] = ask(s); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", s.Addr(), errs[i])
			}
		})
	}
	wg.Wait()
	return replies, errors.Join(errs...)
}

// part is one part of a range on one server, as HOLDFAST DIGEST sends it.
type part struct {
	keys uint64
	sum  [16]byte
}

const (
	digestLen = 28
	placeLen  = 10
	// depth is how many bytes of a key's place one step of the descent takes.
	depth = 2
)

func parseDigests(r any) (map[uint32]part, error) {
	text, ok := r.(string)
	if !ok || len(text)%digestLen != 0 {
		return nil, fmt.Errorf("unexpected reply to HOLDFAST DIGEST: %T", r)
	}
	parts := make(map[uint32]part, len(text)/digestLen)
	for b := []byte(text); len(b) > 0; b = b[digestLen:] {
		p := part{keys: binary.BigEndian.Uint64(b[4:])}
		copy(p.sum[:], b[12:])
		parts[binary.BigEndian.Uint32(b)] = p
	}
	return parts, nil
}

// descend compares the parts of a range, and looks into those that differ.
func (c *comparison) descend(ctx context.Context, token string, db int, prefix []byte) error {
	replies, err := c.each(func(s Server) (any, error) {
		return s.Do(ctx, "HOLDFAST", "DIGEST", token, db, hex.EncodeToString(prefix), depth)
	})
	if err != nil {
		return err
	}
	all := make([]map[uint32]part, len(replies))
	places := map[uint32]uint64{} // of parts that differ: the most keys that any server has there
	for i, r := range replies {
		if all[i], err = parseDigests(r); err != nil {
			return fmt.Errorf("%s: %w", c.servers[i].Addr(), err)
		}
		if i == 0 && len(prefix) < depth { // what lies deeper is counted already
			for _, p := range all[0] {
				c.digested += p.keys
			}
		}
		for n, p := range all[i] {
			if p != all[0][n] {
				places[n] = max(places[n], p.keys, all[0][n].keys)
			}
		}
		for n, p := range all[0] {
			if p != all[i][n] {
				places[n] = max(places[n], p.keys)
			}
		}
	}
	if len(prefix) == 0 {
		c.o.Progress(fmt.Sprintf("database %d: %d of %d ranges differ", db, len(places), len(all[0])))
	}
	order := make([]uint32, 0, len(places))
	for n := range places {
		order = append(order, n)
	}
	slices.Sort(order)
	for _, n := range order {
		if c.report.Differing >= int64(c.o.MaxDifferences) { // named enough
			c.report.Truncated = true
			break
		}
		p := binary.BigEndian.AppendUint16(slices.Clone(prefix), uint16(n))
		if places[n] > listKeys && len(p)+depth <= placeLen {
			err = c.descend(ctx, token, db, p)
		} else {
			err = c.list(ctx, token, db, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listed is a key as HOLDFAST KEYS describes it.
type listed struct {
	typ, value string
	expire     int64
}

// list compares the keys of a range one by one.
func (c *comparison) list(ctx context.Context, token string, db int, prefix []byte) error {
	replies, err := c.each(func(s Server) (any, error) { return listRange(ctx, s, token, db, prefix) })
	if err != nil {
		return err
	}
	first := replies[0].(map[string]listed)
	for i := 1; i < len(replies); i++ {
		c.compare(c.servers[i].Addr(), db, first, replies[i].(map[string]listed))
	}
	return nil
}

// compare notes how b's keys differ from a's.
func (c *comparison) compare(server string, db int, a, b map[string]listed) {
	for key, x := range a {
		d := Difference{Server: server, DB: db, Key: key}
		y, ok := b[key]
		switch {
		case !ok:
			d.How = Missing
		case x.typ != y.typ:
			d.How, d.Detail = Type, fmt.Sprintf("%s instead of %s", y.typ, x.typ)
		case x.value != y.value:
			d.How = Value
			if x.expire != y.expire {
				d.Detail = "and TTL: " + ttlDetail(x.expire, y.expire)
			}
		case x.expire != y.expire:
			d.How, d.Detail = TTL, ttlDetail(x.expire, y.expire)
		default:
			continue
		}
		c.differ(d)
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			c.differ(Difference{Server: server, DB: db, Key: key, How: Extra})
		}
	}
}

func ttlDetail(want, have int64) string {
	at := func(ms int64) string {
		if ms <= 0 {
			return "none"
		}
		return "at " + strconv.FormatInt(ms, 10)
	}
	return fmt.Sprintf("expires %s instead of %s", at(have), at(want))
}

// listRange returns all keys of a range on one server.
func listRange(ctx context.Context, s Server, token string, db int, prefix []byte) (map[string]listed, error) {
	keys := map[string]listed{}
	for after := ""; ; {
		r, err := s.Do(ctx, "HOLDFAST", "KEYS", token, db, hex.EncodeToString(prefix), after, listKeys)
		if err != nil {
			return nil, err
		}
		a, ok := r.([]any)
		if !ok || len(a) != 2 {
			return nil, fmt.Errorf("unexpected reply to HOLDFAST KEYS: %v", r)
		}
		list, _ := a[1].([]any)
		for _, k := range list {
			f, _ := k.([]any)
			if len(f) != 5 {
				return nil, fmt.Errorf("unexpected reply to HOLDFAST KEYS: %v", k)
			}
			name, _ := f[0].(string)
			l := listed{}
			l.typ, _ = f[2].(string)
			l.expire, _ = f[3].(int64)
			l.value, _ = f[4].(string)
			keys[name] = l
		}
		if after, _ = a[0].(string); after == "" {
			return keys, nil
		}
	}
}
