package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// cutRun is how full syncs are cut.
type cutRun struct {
	keys   int64
	old    int64
	policy string
	limit  time.Duration
}

func defineCutSync(fs *flag.FlagSet) func(context.Context, *env) error {
	c := cutRun{}
	at := fs.String("at", "10,50,90", "`percent` of the snapshot's bytes after which the link is cut; each alone, and all in one sync")
	fs.Int64Var(&c.keys, "keys", 3_000_000, "`keys` of 20 bytes with 100 random bytes each")
	fs.Int64Var(&c.old, "old", 100_000, "`keys` that the replica has before")
	fs.StringVar(&c.policy, "policy", "everysec", "appendfsync `policy`")
	fs.DurationVar(&c.limit, "limit", 5*time.Minute, "longest `time` of a sync")
	bar := fs.Float64("bar", 1.1, "most bytes that holdfast → holdfast may send, as a multiple of an uncut sync's; 0 = any number")
	return func(ctx context.Context, e *env) error {
		percents, err := parsePercents(*at)
		if err != nil {
			return fmt.Errorf("-at: %w", err)
		}
		r := NewReport(e.out, "A full sync that is cut", e.command)
		r.Printf("%s keys of %d bytes with %d random bytes, no load. The replica has %s keys of another history, which a client reads all the time. The link\n"+
			"is cut once so many percent of what an uncut sync sends have gone, and can be made again at once. Bytes are counted between primary and replica, in that direction.\n"+
			"Until the new data are there, readers get: answers with the old value, refusals (LOADING and the like), at most so long no answer.\n\n",
			millions(c.keys), keyLen, valueSize, thousands(float64(c.old)))
		rows := [][]string{{"pair", "cut at", "time", "bytes", "times uncut", "sync_full", "partial", "old values read", "refusals", "longest without answer"}}
		var failed error
		for _, p := range e.pairs {
			schedules := [][]int64{nil}
			for _, x := range percents {
				schedules = append(schedules, []int64{x})
			}
			if len(percents) > 1 {
				schedules = append(schedules, percents)
			}
			uncut := int64(0)
			err := e.withFleet(func(fl *fleet) error {
				primary, err := fl.add(ctx, p.primary, replicationArgs(p.primary, c.policy)...)
				if err != nil {
					return err
				}
				if _, err := primary.fill(ctx, c.keys, valueSize); err != nil {
					return err
				}
				for _, schedule := range schedules {
					f, err := e.cutSync(ctx, fl, c, p, primary, schedule, uncut)
					if err != nil {
						return fmt.Errorf("cut at %v %%: %w", schedule, err)
					}
					if schedule == nil {
						uncut = f.bytes
					}
					times := float64(f.bytes) / float64(uncut)
					rows = append(rows, []string{p.String(), cutName(schedule), seconds(f.took.Seconds()), mebibytes(float64(f.bytes)), ratio(times),
						strconv.FormatInt(f.syncs.full, 10), strconv.FormatInt(f.syncs.partial, 10),
						thousands(float64(f.reads.old)), thousands(float64(f.reads.refused)), millis(f.reads.longest)})
					r.Run(fmt.Sprintf("CutSync/%s/keys=%d/cut=%s", p.key(), c.keys, strings.NewReplacer(", ", "+", " %", "").Replace(cutName(schedule))), 1,
						Metric{f.took.Seconds(), "s"}, Metric{float64(f.bytes), "B"}, Metric{times, "x-uncut"}, Metric{float64(f.reads.refused), "refusals"})
					failed = errors.Join(failed, f.judge(p, schedule, times, *bar))
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
		r.Table(rows)
		return errors.Join(r.Save(e.output), failed)
	}
}

func parsePercents(text string) ([]int64, error) {
	var percents []int64
	for _, t := range list(text) {
		n, err := strconv.ParseInt(t, 10, 64)
		if err != nil || n <= 0 || n >= 100 || len(percents) > 0 && n <= percents[len(percents)-1] {
			return nil, fmt.Errorf("%q: want rising numbers between 1 and 99", text)
		}
		percents = append(percents, n)
	}
	return percents, nil
}

func cutName(schedule []int64) string {
	if len(schedule) == 0 {
		return "never"
	}
	var parts []string
	for _, x := range schedule {
		parts = append(parts, fmt.Sprintf("%d %%", x))
	}
	return strings.Join(parts, ", ")
}

// cutFigures are of one sync.
type cutFigures struct {
	took  time.Duration
	bytes int64 // from primary to replica
	syncs syncs
	reads oldReads
}

// judge says what a Holdfast must not do: refuse its old data to readers as a replica, and send again what has arrived as a primary of its own
// kind.
func (f cutFigures) judge(p pair, schedule []int64, times, bar float64) error {
	var err error
	if p.replica == Holdfast && f.reads.refused > 0 {
		err = fmt.Errorf("%s, cut at %s: %d reads of the old data were refused", p, cutName(schedule), f.reads.refused)
	}
	if p == (pair{Holdfast, Holdfast}) && bar > 0 && times > bar {
		err = errors.Join(err, fmt.Errorf("%s, cut at %s: %.2f times the bytes of an uncut sync, at most %.2f are allowed", p, cutName(schedule), times, bar))
	}
	return err
}

// cutSync has a new replica take over the primary's data over a link that is cut.
func (e *env) cutSync(ctx context.Context, fl *fleet, c cutRun, p pair, primary *node, schedule []int64, uncut int64) (f cutFigures, err error) {
	net, err := fl.proxy(primary)
	if err != nil {
		return f, err
	}
	replica, err := fl.add(ctx, p.replica, replicationArgs(p.replica, c.policy)...)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, replica.kill()) }()
	if err := fillOld(ctx, replica, c.old); err != nil {
		return f, err
	}
	counted, err := primary.syncs()
	if err != nil {
		return f, err
	}
	reader, err := readOld(ctx, replica.Addr, c.old)
	if err != nil {
		return f, err
	}
	started := time.Now()
	err = replica.follow(net.Addr())
	for _, percent := range schedule {
		if err == nil {
			net.CutAt(uncut * percent / 100)
			before := net.Cuts()
			err = until(ctx, c.limit, fmt.Sprintf("%d %% of the snapshot to have gone", percent), func() (bool, error) { return net.Cuts() > before, nil })
		}
	}
	if err == nil {
		_, err = replica.awaitLink(ctx, c.limit)
	}
	f.took, f.bytes = time.Since(started), net.Down()
	var rerr error
	if f.reads, rerr = reader.stop(); err != nil || rerr != nil {
		return f, errors.Join(err, rerr)
	}
	if err := awaitEqual(ctx, primary, c.limit, replica); err != nil {
		return f, err
	}
	now, err := primary.syncs()
	if err != nil {
		return f, err
	}
	f.syncs = now.minus(counted)
	return f, sameData(ctx, primary, replica)
}

// oldKey is a key of the replica's own history; no other key of the benchmark looks like it.
func oldKey(n int64) []byte { return appendDigits([]byte("old:"), n, keyLen-len("old:")) }

// oldFiller writes the replica's own keys.
type oldFiller struct {
	setter
	n int64
}

func (s *oldFiller) Append(dst []byte) []byte {
	dst = AppendCommand(dst, "SET", string(oldKey(s.n)), string(appendValue(nil, s.n, 0, valueSize)))
	s.n++
	return dst
}

func fillOld(ctx context.Context, n *node, keys int64) error {
	if keys == 0 {
		return nil
	}
	_, err := Load{Addr: n.Addr, Conns: 1, Pipeline: 64, Ops: keys, Script: func(int) Script { return &oldFiller{} }}.Run(ctx)
	return errors.Join(err, ctx.Err())
}

// oldReads is what a reader of the replica's own keys has seen until the new data took their place.
type oldReads struct {
	old     int64 // answers with the right value
	refused int64 // error replies and lost connections
	longest time.Duration
}

// oldReader reads keys of the replica's own history in turn, until one is gone or it is told to stop.
type oldReader struct {
	cancel context.CancelFunc
	done   chan error
	seen   oldReads
}

func readOld(ctx context.Context, addr string, keys int64) (*oldReader, error) {
	c, err := Dial(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	o := &oldReader{cancel: cancel, done: make(chan error, 1)}
	go func() {
		defer func() { c.Close() }()
		o.done <- o.read(ctx, &c, addr, keys)
	}()
	return o, nil
}

// read asks some thousand times a second: enough to see any gap, and little beside a sync.
func (o *oldReader) read(ctx context.Context, c **Client, addr string, keys int64) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	answered := time.Now()
	for n := int64(0); keys > 0; n = (n + 1) % keys {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		reply, err := (*c).Do("GET", string(oldKey(n)))
		switch {
		case err != nil:
			o.seen.refused++
			if reply.Kind != '-' {
				(*c).Close()
				next, derr := Dial(addr)
				if derr != nil {
					return errors.Join(err, derr)
				}
				*c = next
			}
			continue
		case reply.Null:
			return nil // the new data are there
		case string(reply.Text) != string(appendValue(nil, n, 0, valueSize)):
			return fmt.Errorf("old key %d was answered %s", n, shorten(reply.String()))
		}
		now := time.Now()
		o.seen.old, o.seen.longest, answered = o.seen.old+1, max(o.seen.longest, now.Sub(answered)), now
	}
	return nil
}

func (o *oldReader) stop() (oldReads, error) {
	o.cancel()
	err := <-o.done
	return o.seen, err
}
