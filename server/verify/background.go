package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Background compares a replica with the primary at the head of its chain, slowly, again and again. Each pass has one mark, so that
// all of it is compared at one offset; the views last as long as the pass, and cost disk meanwhile.
type Background struct {
	Self Server
	// Dial connects to a primary. The caller closes what it returned after the pass.
	Dial func(addr string) (Server, error)
	// Rate is how many keys per second are to be compared; it is asked again and again, and 0 ends the pass.
	Rate func() int64
	// Sleep waits, or returns ctx's error.
	Sleep func(ctx context.Context, d time.Duration) error
	Now   func() time.Time
}

var (
	// ErrNoViews says that the primary at the head of the chain is no Holdfast, so that there are no marks.
	ErrNoViews = errors.New("the primary is no Holdfast and has no marks")
	// ErrOff says that the rate has become 0.
	ErrOff = errors.New("the check is off")
)

const (
	// passDifferences is after how many differences a pass stops looking into ranges.
	passDifferences = 1000
	// markKeep is how often a mark is asked for while nothing else is: servers forget it after a minute.
	markKeep = 15 * time.Second
	// slotBytes is how many values the first byte of a place has: of its 16 bits of slot 14 are used.
	slotBytes = 64
)

// Pass compares everything once. The first server of the report is the primary, the second one the replica.
func (b *Background) Pass(ctx context.Context) (*Report, error) {
	start := b.Now()
	c := &comparison{servers: []Server{b.Self}, report: &Report{Differences: []Difference{}},
		o: Options{MaxDifferences: passDifferences, Wait: time.Minute, Dial: b.Dial, Progress: func(string) {}}}
	top, err := c.primary(ctx)
	if err != nil {
		return nil, err
	}
	if top.Addr() == b.Self.Addr() {
		return nil, errors.New("this server is a primary")
	}
	info, err := serverInfo(ctx, top)
	if err != nil {
		return nil, err
	}
	if info["holdfast_version"] == "" {
		return nil, fmt.Errorf("%s: %w", top.Addr(), ErrNoViews)
	}
	c.servers = []Server{top, b.Self}
	c.report.Servers = []ServerState{{Addr: top.Addr(), Role: "master"}, {Addr: b.Self.Addr(), Role: "slave"}}
	token, dbs, err := c.mark(ctx, top)
	defer c.unmark(ctx, top, token)
	if err != nil {
		return nil, err
	}
	for _, db := range dbs {
		for slot := range slotBytes {
			began, before := b.Now(), c.digested
			if err := c.descend(ctx, token, db, []byte{byte(slot)}); err != nil {
				return nil, err
			}
			if err := b.pace(ctx, c, token, c.digested-before, began); err != nil {
				return nil, err
			}
		}
	}
	c.report.Elapsed = b.Now().Sub(start)
	c.report.Guarantee = guaranteeAt(c.report.Offset)
	return c.report, nil
}

// pace waits until keys, compared since began, have taken as long as the rate says, and keeps the mark meanwhile.
func (b *Background) pace(ctx context.Context, c *comparison, token string, keys uint64, began time.Time) error {
	for {
		rate := b.Rate()
		if rate <= 0 {
			return ErrOff
		}
		left := time.Duration(float64(keys)/float64(rate)*float64(time.Second)) - b.Now().Sub(began)
		if left <= 0 {
			return ctx.Err()
		}
		if err := b.Sleep(ctx, min(left, markKeep)); err != nil {
			return err
		}
		if left < markKeep {
			return nil
		}
		if _, err := c.each(func(s Server) (any, error) { return s.Do(ctx, "HOLDFAST", "MARKED", token, 0) }); err != nil {
			return err
		}
	}
}

func guaranteeAt(offset int64) string {
	return fmt.Sprintf("exact: all servers were compared as they stood at offset %d of one history", offset)
}

// unmark drops a mark everywhere; where that fails it expires by itself.
func (c *comparison) unmark(ctx context.Context, primary Server, token string) {
	if token == "" {
		return
	}
	all := c.servers
	if !slices.ContainsFunc(all, func(s Server) bool { return s.Addr() == primary.Addr() }) {
		all = append(slices.Clone(all), primary)
	}
	for _, s := range all {
		_, _ = s.Do(context.WithoutCancel(ctx), "HOLDFAST", "UNMARK", token)
	}
}
