package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// KillCycles runs a server, kills it in the middle of its work, and looks at what a restart finds.
//
// Each client alone writes its keys, with pipelines, transactions and deletes, and knows from a model what every reply must
// be. After a crash the data of each client must be that after all its acknowledged ops and a prefix of those on their way
// (W2, W4); a counter that all clients raise and read must be at least what any reply has shown (A1); there must be no other
// key. Checkpoints run meanwhile, memory is too small now and then, and some restarts are killed as well.
//
// With appendfsync everysec what was acknowledged within everysecLoss before the kill may be gone, but what is found must
// still be a prefix of each client's ops.
type KillCycles struct {
	Spec    Spec   // Dir is used over all cycles
	Fsync   string // appendfsync: always or everysec; "": the server's directives are left alone, and judged as always
	Cycles  int
	Clients int
	MaxRun  time.Duration // longest time of load before the kill
	Seed    uint64
	Out     io.Writer
}

func defineKill(fs *flag.FlagSet) func(context.Context, *env) error {
	cycles := fs.Int("cycles", 20, "`number` of kills")
	clients := fs.Int("c", 8, "`connections`")
	maxRun := fs.Duration("run", 600*time.Millisecond, "longest `time` of load before a kill")
	policy := fs.String("policy", "always", "appendfsync `policy`, always or everysec")
	return func(ctx context.Context, e *env) error {
		if *policy != "always" && *policy != "everysec" {
			return fmt.Errorf("-policy %s: always or everysec", *policy)
		}
		kill := func(kind Kind) (err error) {
			dir, remove, err := tempDir()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, e.cleanUp(dir, remove, err)) }()
			return KillCycles{Spec: e.spec(kind, dir), Fsync: *policy, Cycles: *cycles, Clients: *clients,
				MaxRun: *maxRun, Seed: e.seed, Out: e.out}.Run(ctx)
		}
		for _, kind := range e.servers {
			if err := kill(kind); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
		}
		return nil
	}
}

// Run runs the cycles; an error names the seed and says what was lost.
func (k KillCycles) Run(ctx context.Context) error {
	fmt.Fprintf(k.Out, "kill -9 of %s%s: %d cycles, %d clients, seed %d\n", k.Spec.Kind, map[bool]string{true: ", appendfsync " + k.Fsync}[k.Fsync != ""],
		k.Cycles, k.Clients, k.Seed)
	if err := k.run(ctx); err != nil {
		return fmt.Errorf("seed %d: %w", k.Seed, err)
	}
	return nil
}

func (k KillCycles) run(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(k.Seed, 1<<32))
	var shared sharedCounter
	victims := make([]*victim, k.Clients)
	for i := range victims {
		victims[i] = newVictim(i, k.Seed, &shared)
		if k.Fsync == "everysec" {
			victims[i].mayLose = everysecLoss
		}
	}
	for cycle := 1; cycle <= k.Cycles; cycle++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := k.cycle(ctx, rng, victims); err != nil {
			return fmt.Errorf("cycle %d: %w", cycle, err)
		}
		if err := k.look(ctx, rng, victims, &shared, (*Process).Kill); err != nil {
			return fmt.Errorf("after kill %d: %w", cycle, err)
		}
		if cycle%20 == 0 || cycle == k.Cycles {
			acked := int64(0)
			for _, v := range victims {
				acked += v.ackedN
			}
			lost := int64(0)
			for _, v := range victims {
				lost += v.lostN
			}
			fmt.Fprintf(k.Out, "%d kills, %d acknowledged ops, %d keys: %s\n", cycle, acked, sizes(victims),
				map[bool]string{true: "nothing lost", false: fmt.Sprintf("%d of the last second lost, nothing older", lost)}[lost == 0])
		}
	}
	if err := k.check(ctx); err != nil {
		return fmt.Errorf("after the last kill: %w", err)
	}
	if err := k.look(ctx, rng, victims, &shared, (*Process).Stop); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	if err := k.check(ctx); err != nil {
		return fmt.Errorf("after the stop: %w", err)
	}
	if err := k.look(ctx, rng, victims, &shared, (*Process).Kill); err != nil {
		return fmt.Errorf("after the stop: %w", err)
	}
	return nil
}

// spec is the server with this cycle's directives.
func (k KillCycles) spec(rng *rand.Rand) Spec {
	s := k.Spec
	if k.Fsync != "" {
		s.Args = append(policyArgs(s.Kind, k.Fsync), s.Args...)
	}
	if s.Kind == Holdfast {
		budget := []string{"0", "8mb"}[rng.IntN(2)]
		s.Args = append(s.Args, "--checkpoint-log-bytes", strconv.Itoa(1<<(20+rng.IntN(5))), "--maxmemory", budget)
	}
	return s
}

// everysecLoss is how much appendfsync everysec may lose, told from when a reply arrives: the log is synced once a second.
const everysecLoss = time.Second

// cycle starts the server, lets the clients work and kills it.
func (k KillCycles) cycle(ctx context.Context, rng *rand.Rand, victims []*victim) (err error) {
	p, err := Start(ctx, k.spec(rng))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Kill()) }()
	found := make(chan error, len(victims))
	var wg sync.WaitGroup
	for _, v := range victims {
		wg.Go(func() {
			var lost errLost
			if err := v.work(p.Addr); !errors.As(err, &lost) {
				found <- err
			}
		})
	}
	run := 10*time.Millisecond + time.Duration(rng.Int64N(int64(k.MaxRun)))
	save := time.Duration(rng.Int64N(int64(2 * run))) // half of the cycles end before it
	if err := k.pause(ctx, min(save, run), p, found); err != nil {
		return err
	}
	if save < run {
		if err := bgsave(p); err != nil {
			return err
		}
		if err := k.pause(ctx, run-save, p, found); err != nil {
			return err
		}
	}
	killed := time.Now()
	if err := p.Kill(); err != nil {
		return err
	}
	wg.Wait()
	for _, v := range victims {
		v.settle(killed)
	}
	select {
	case err := <-found:
		return err
	default:
		return nil
	}
}

// pause lets time pass unless something is found meanwhile.
func (k KillCycles) pause(ctx context.Context, d time.Duration, p *Process, found <-chan error) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case err := <-found:
		return err
	case <-p.Ended():
		return fmt.Errorf("the server ended by itself: %v; its output ends with: %s", p.err, p.logTail())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bgsave asks for a checkpoint; that one runs already is fine.
func bgsave(p *Process) error {
	c, err := Dial(p.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Do("BGSAVE", "SCHEDULE"); err != nil {
		return fmt.Errorf("BGSAVE: %w", err)
	}
	return nil
}

// look restarts the server, in one of four cases after a restart that is killed before it is done, compares all data, and
// ends the server.
func (k KillCycles) look(ctx context.Context, rng *rand.Rand, victims []*victim, shared *sharedCounter, end func(*Process) error) error {
	if rng.IntN(4) == 0 {
		p, err := Launch(k.spec(rng))
		if err != nil {
			return err
		}
		t := time.NewTimer(time.Duration(rng.Int64N(int64(40 * time.Millisecond))))
		select {
		case <-t.C:
		case <-p.Ended():
			t.Stop()
		}
		if err := p.Kill(); err != nil {
			return err
		}
	}
	p, err := Start(ctx, k.spec(rng))
	if err != nil {
		return err
	}
	if err := k.compare(p, victims, shared); err != nil {
		return errors.Join(err, p.Kill())
	}
	return end(p)
}

func (k KillCycles) compare(p *Process, victims []*victim, shared *sharedCounter) error {
	c, err := Dial(p.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, v := range victims {
		if err := v.verify(c); err != nil {
			return err
		}
	}
	keys := sizes(victims)
	r, err := c.Do("GET", sharedKey)
	if err != nil {
		return err
	}
	n := int64(0)
	if !r.Null {
		keys++
		if n, err = strconv.ParseInt(string(r.Text), 10, 64); err != nil {
			return fmt.Errorf("GET %s answered %s", sharedKey, r)
		}
	}
	shown, sent := int64(0), shared.sent.Load()
	for _, v := range victims {
		shown = max(shown, v.settledShown)
	}
	if n < shown || n > sent {
		return fmt.Errorf("the shared counter is %d; a reply that must not be forgotten has shown %d, %d increments were sent", n, shown, sent)
	}
	for _, v := range victims {
		v.settledShown = n
	}
	// What was on its way and did not arrive will never do so.
	shared.sent.Store(n)
	if r, err = c.Do("DBSIZE"); err != nil {
		return err
	}
	if r.Int != int64(keys) {
		return fmt.Errorf("DBSIZE is %d, expected %d", r.Int, keys)
	}
	return nil
}

// check verifies the data directory offline.
func (k KillCycles) check(ctx context.Context) error {
	if k.Spec.Kind != Holdfast {
		return nil
	}
	bin, err := holdfastProgram(k.Spec)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, bin, "check", k.Spec.Dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("holdfast check: %w: %s", err, out)
	}
	fmt.Fprintf(k.Out, "holdfast check: %s\n", lastLine(out))
	return nil
}
