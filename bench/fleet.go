package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// pair is who replicates to whom.
type pair struct{ primary, replica Kind }

func (p pair) String() string { return fmt.Sprintf("%s → %s", p.primary, p.replica) }

// key is the pair in the name of a run.
func (p pair) key() string { return fmt.Sprintf("primary=%s/replica=%s", p.primary, p.replica) }

// parsePairs reads "redis:redis,holdfast:redis".
func (e *env) parsePairs(text string) ([]pair, error) {
	var pairs []pair
	for _, t := range list(text) {
		a, b, ok := strings.Cut(t, ":")
		p := pair{Kind(a), Kind(b)}
		for _, k := range []Kind{p.primary, p.replica} {
			if !ok || k != Redis && k != Holdfast && e.commands[k] == "" {
				return nil, fmt.Errorf("pair %q: want PRIMARY:REPLICA, each redis, holdfast or a name that -server gives", t)
			}
		}
		pairs = append(pairs, p)
	}
	if len(pairs) == 0 {
		return nil, errors.New("no pairs")
	}
	return pairs, nil
}

// inTurn is what to run in a round: the order alternates, so that what warms up or wears out strikes all alike.
func inTurn[T any](of []T, round int) []T {
	of = slices.Clone(of)
	if round%2 == 1 {
		slices.Reverse(of)
	}
	return of
}

// fleet is a number of servers that live and end together.
type fleet struct {
	e       *env
	top     string
	nodes   []*node
	proxies []*Proxy
}

// withFleet calls fn with an empty fleet, and ends what fn has added to it.
func (e *env) withFleet(fn func(f *fleet) error) (err error) {
	top, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return err
	}
	f := &fleet{e: e, top: top}
	defer func() {
		for _, p := range f.proxies {
			err = errors.Join(err, p.Close())
		}
		for _, n := range f.nodes {
			err = errors.Join(err, n.kill())
		}
		err = errors.Join(err, e.cleanUp(top, func() error { return os.RemoveAll(top) }, err))
	}()
	return fn(f)
}

// replicationArgs are the directives of a server that is compared in replication.
func replicationArgs(kind Kind, policy string) []string {
	args := append(policyArgs(kind, policy), "--enable-debug-command", "yes")
	if kind == Holdfast {
		// Far behind, a replica may be given a snapshot where that is sooner. What is measured is resuming, and full syncs are counted.
		args = append(args, "--repl-sync-choice", "replay")
	}
	if kind == Redis {
		// Redis waits 5 s by default for further replicas before it begins a snapshot: that is not what is measured.
		args = append(args, "--repl-diskless-sync-delay", "0")
	}
	return args
}

// add starts a server on a directory and an address of its own, which it keeps over restarts.
func (f *fleet) add(ctx context.Context, kind Kind, args ...string) (*node, error) {
	n := &node{name: fmt.Sprintf("%s-%d", kind, len(f.nodes)+1)}
	dir := filepath.Join(f.top, n.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	n.spec = f.e.spec(kind, dir, args...)
	f.nodes = append(f.nodes, n)
	p, err := Start(ctx, n.spec)
	if err != nil {
		return nil, err
	}
	n.Process, n.spec.Addr = p, p.Addr
	return n, nil
}

// proxy puts a network before a server.
func (f *fleet) proxy(n *node) (*Proxy, error) {
	p, err := NewProxy(n.Addr)
	if err != nil {
		return nil, err
	}
	f.proxies = append(f.proxies, p)
	return p, nil
}

// node is a server of a fleet. Process is its present or last process. Not for concurrent use.
type node struct {
	name string
	spec Spec
	*Process

	client *Client // nil = to be dialled
}

// restart starts the server again where it was.
func (n *node) restart(ctx context.Context) error {
	if err := n.launch(); err != nil {
		return err
	}
	return n.WaitReady(ctx)
}

// launch starts the server again and does not wait until it answers.
func (n *node) launch() error {
	n.hangUp()
	p, err := Launch(n.spec)
	if err != nil {
		return err
	}
	n.Process = p
	return nil
}

// kill ends the process by SIGKILL, and returns what the process ended of if it had ended by itself.
func (n *node) kill() error {
	n.hangUp()
	if n.Process == nil {
		return nil
	}
	return n.Process.Kill()
}

func (n *node) stop() error {
	n.hangUp()
	return n.Process.Stop()
}

// signal sends a signal to the process: SIGSTOP, SIGCONT.
func (n *node) signal(s syscall.Signal) error { return n.cmd.Process.Signal(s) }

func (n *node) hangUp() {
	if n.client != nil {
		n.client.Close()
		n.client = nil
	}
}

// do asks over a connection that is kept.
func (n *node) do(args ...string) (Reply, error) {
	if n.client == nil {
		c, err := Dial(n.spec.Addr)
		if err != nil {
			return Reply{}, err
		}
		n.client = c
	}
	r, err := n.client.Do(args...)
	if err != nil && r.Kind != '-' {
		n.hangUp()
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w", n.name, args[0], err)
	}
	return r, err
}

// info is one section of INFO.
func (n *node) info(section string) (map[string]string, error) {
	r, err := n.do("INFO", section)
	if err != nil {
		return nil, err
	}
	return parseInfo(string(r.Text)), nil
}

// follow makes the server a replica of the one behind addr.
func (n *node) follow(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	_, err = n.do("REPLICAOF", host, port)
	return err
}

// standing is where a server is in the stream. Of a replica whose link is down, offset may mean nothing.
type standing struct {
	replica bool
	linkUp  bool // of a replica
	id      string
	offset  int64
}

// has: s is a replica in the stream that p is in, and has applied it up to p's offset. The id counts because offsets of two streams say
// nothing about each other: a Redis that was killed begins a stream at 0, and whoever followed it is beyond that, with its link up, until
// it notices.
func (s standing) has(p standing) bool {
	return s.replica && s.linkUp && s.id == p.id && s.offset >= p.offset
}

func (s standing) String() string {
	switch {
	case !s.replica:
		return fmt.Sprintf("primary at %d", s.offset)
	case s.linkUp:
		return fmt.Sprintf("replica at %d", s.offset)
	}
	return "replica without link"
}

func (n *node) standing() (standing, error) {
	info, err := n.info("replication")
	if err != nil {
		return standing{}, err
	}
	s := standing{replica: info["role"] == "slave", linkUp: info["master_link_status"] == "up", id: info["master_replid"]}
	field := "master_repl_offset"
	if s.replica {
		field = "slave_repl_offset"
	}
	s.offset, err = infoInt(info, field)
	return s, err
}

// awaitHandedOver waits until a fail-over that was asked of a primary has ended: it is a replica then.
func (n *node) awaitHandedOver(ctx context.Context, limit time.Duration) error {
	return until(ctx, limit, "the fail-over of "+n.name+" to end", func() (bool, error) {
		info, err := n.info("replication")
		return info["master_failover_state"] == "no-failover" && info["role"] == "slave", err
	})
}

// syncs are how often replicas were served, since the process began.
type syncs struct{ full, partial, refused int64 }

func (s syncs) plus(o syncs) syncs {
	return syncs{s.full + o.full, s.partial + o.partial, s.refused + o.refused}
}
func (s syncs) minus(o syncs) syncs {
	return syncs{s.full - o.full, s.partial - o.partial, s.refused - o.refused}
}
func (s syncs) String() string {
	return fmt.Sprintf("sync_full %d, sync_partial_ok %d, sync_partial_err %d", s.full, s.partial, s.refused)
}

func (n *node) syncs() (s syncs, err error) {
	info, err := n.info("stats")
	if err != nil {
		return s, err
	}
	for name, to := range map[string]*int64{"sync_full": &s.full, "sync_partial_ok": &s.partial, "sync_partial_err": &s.refused} {
		if *to, err = infoInt(info, name); err != nil {
			return s, err
		}
	}
	return s, nil
}

// pollEvery is how often a server is asked while something is awaited, and so how exact a measured time is.
const pollEvery = 2 * time.Millisecond

// until asks until done returns true. Errors of done count as "not yet"; limit bounds the whole.
func until(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errLimit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		ok, err := done()
		if ok && err == nil {
			return nil
		}
		last = err
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting %v for %s: %w (last: %v)", limit, what, context.Cause(ctx), last)
		}
	}
}

// errLimit is why a wait gave up.
var errLimit = errors.New("too long")

// awaitLink waits until a replica's link is up, and returns where it is then.
func (n *node) awaitLink(ctx context.Context, limit time.Duration) (s standing, err error) {
	err = until(ctx, limit, "the link of "+n.name, func() (bool, error) {
		if s, err = n.standing(); err != nil {
			return false, err
		}
		return s.replica && s.linkUp, nil
	})
	if err != nil {
		err = fmt.Errorf("%w; its output ends with: %s", err, n.logTail())
	}
	return s, err
}

// awaitPresent waits until a replica has all that the primary has logged when it is called, and returns where that was.
func (n *node) awaitPresent(ctx context.Context, primary *node, limit time.Duration) (target standing, err error) {
	if target, err = primary.standing(); err != nil {
		return target, err
	}
	err = until(ctx, limit, fmt.Sprintf("%s to reach %d", n.name, target.offset), func() (bool, error) {
		s, err := n.standing()
		if err != nil || s.has(target) {
			return err == nil, err
		}
		if s.id != target.id {
			// A Redis takes a new id when its first replica comes, and goes on counting.
			now, err := primary.standing()
			target.id = now.id
			return false, err
		}
		return false, nil
	})
	return target, err
}

// awaitEqual waits until replicas have applied all that the primary has logged: it ends only if writing stops, or if they are
// as fast as the writers.
func awaitEqual(ctx context.Context, primary *node, limit time.Duration, replicas ...*node) error {
	for _, r := range replicas {
		var ps, rs standing
		err := until(ctx, limit, "offsets to be equal", func() (ok bool, err error) {
			if ps, err = primary.standing(); err != nil {
				return false, err
			}
			if rs, err = r.standing(); err != nil {
				return false, err
			}
			return rs.has(ps), nil
		})
		if err != nil {
			return fmt.Errorf("%s: %s, %s: %s: %w", primary.name, ps, r.name, rs, err)
		}
	}
	return nil
}

// sameData holds that servers have the same data, as Redis's digest and as ours finds. REQUIRES: nobody writes, and their offsets are equal.
func sameData(ctx context.Context, nodes ...*node) error {
	if err := sameDigest(nodes...); err != nil {
		return err
	}
	return verify(ctx, nodes...)
}

// sameDigest holds that servers have the same data by Redis's digest, which all of them compute at once: names, values and times to live
// of all keys. REQUIRES: nobody writes, and their offsets are equal.
func sameDigest(nodes ...*node) error {
	sums, errs := make([]string, len(nodes)), make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			r, err := n.do("DEBUG", "DIGEST")
			sums[i], errs[i] = r.String(), err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, n := range nodes {
		if sums[i] != sums[0] {
			return fmt.Errorf("the data differ: DEBUG DIGEST of %s is %s, of %s %s", nodes[0].name, sums[0], n.name, sums[i])
		}
	}
	return nil
}

// verifyLimit is how long a comparison may wait for a replica, and hold writes back: the rigs' writers wait for it.
const verifyLimit = 10 * time.Minute

// verify has `holdfast verify` compare servers, at one offset, while writes may go on. Without a Holdfast among them there is nothing to
// do it with.
func verify(ctx context.Context, nodes ...*node) error {
	i := slices.IndexFunc(nodes, func(n *node) bool { return n.spec.Kind == Holdfast })
	if i < 0 {
		return nil
	}
	bin, err := holdfastProgram(nodes[i].spec)
	if err != nil {
		return err
	}
	args := []string{"verify", "--wait", verifyLimit.String(), "--max-pause", verifyLimit.String()}
	for _, n := range nodes {
		args = append(args, n.Addr)
	}
	out, err := exec.CommandContext(ctx, bin, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("holdfast %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// parseBytes reads 123, 64k, 500m, 2g (powers of 1024).
func parseBytes(text string) (int64, error) {
	digits := strings.TrimRight(strings.ToLower(text), "kmgb")
	shift := map[string]int{"": 0, "k": 10, "kb": 10, "m": 20, "mb": 20, "g": 30, "gb": 30}
	s, ok := shift[strings.ToLower(text[len(digits):])]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is not a number of bytes", text)
	}
	return n << s, nil
}
