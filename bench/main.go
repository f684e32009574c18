package bench

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// benchmark is one thing that Main can do. define declares its flags and returns what runs it when they are parsed.
type benchmark struct {
	name, help string
	report     bool   // writes docs/bench/NAME.md
	points     bool   // adds points to the results: takes -out and -compare
	pairs      string // takes -pairs, with this default, instead of -servers
	both       bool   // takes -servers, too
	servers    string // those of -servers by default; "" = redis and holdfast
	tool       bool   // measures nothing: takes no servers
	define     func(fs *flag.FlagSet) func(ctx context.Context, e *env) error
}

// syncPairs are the pairs of a full sync.
const syncPairs = "redis:redis,holdfast:holdfast,holdfast:redis,redis:holdfast"

func benchmarks() []benchmark {
	return []benchmark{
		{name: "kill", help: "kill -9 a server under load, again and again: what was acknowledged must be there", servers: "holdfast", define: defineKill},
		{name: "redis", help: "redis-benchmark against both servers, in turn", report: true, define: defineRedis},
		{name: "all", help: "throughput, cow, outage, sync and restart, with one page of all", points: true, both: true, pairs: syncPairs, define: defineAll},
		{name: "throughput", help: "requests per second and latency, by mix, depth and policy", report: true, points: true, define: defineThroughput},
		{name: "null", help: "a server that answers without doing anything, until it is ended", tool: true, define: defineNull},
		{name: "restart", help: "time to the first answered GET after SIGTERM and after kill -9", report: true, points: true, define: defineRestart},
		{name: "memory", help: "bytes of memory for a resident key", report: true, define: defineMemory},
		{name: "write-amp", help: "bytes written to disk for a byte of log", report: true, define: defineWriteAmp},
		{name: "checkpoint", help: "latency of writes while a checkpoint runs", report: true, define: defineCheckpoint},
		{name: "cold", help: "data larger than memory: uniform reads and writes", report: true, define: defineCold},
		{name: "cow", help: "what a snapshot costs while writes go on", report: true, points: true, define: defineCow},
		{name: "outage", help: "a replica is away while much is written, and comes back", report: true, points: true, define: defineOutage},
		{name: "sync", help: "a full sync, of an idle primary and under load", report: true, points: true, pairs: syncPairs, define: defineSync},
		{name: "cutsync", help: "a full sync whose link is cut on the way", report: true, pairs: "redis:redis,holdfast:holdfast", define: defineCutSync},
		{name: "slowreplica", help: "a replica that is stopped, or reads slowly, under full load", report: true, pairs: "redis:redis,holdfast:holdfast,holdfast:redis", define: defineSlowReplica},
		{name: "replkill", help: "kill -9 a primary and its replica in turn, under load", report: true, pairs: "redis:redis,holdfast:holdfast", define: defineReplKill},
		{name: "failover", help: "the role handed over, by redis-sentinel after kill -9 and by FAILOVER", report: true, define: defineFailover},
		{name: "soak", help: "a primary and three replicas under load, with kills, stops, cuts and promotions at random", report: true, define: defineSoak},
	}
}

// env is what a running benchmark has.
type env struct {
	out      io.Writer
	binary   string // Holdfast's program; "" = this one
	servers  []Kind
	pairs    []pair
	commands map[Kind]string // of servers that -server has named
	named    []Kind          // the same, in the order in which they were named
	results  *collector
	seed     uint64
	output   string   // where the report goes; "" = nowhere
	command  []string // what makes this run again
	keepData bool
}

// Main runs `holdfast bench ARGS` and returns the exit status: 0, 1 if the benchmark failed, 2 for wrong usage.
func Main(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "--help"}, args[0]) {
		fmt.Fprint(stderr, Usage())
		return 2
	}
	if args[0] == "report" {
		return renderAgain(args[1:], stdout, stderr)
	}
	i := slices.IndexFunc(benchmarks(), func(b benchmark) bool { return b.name == args[0] })
	if i < 0 {
		fmt.Fprintf(stderr, "holdfast bench: unknown benchmark %q\n\n%s", args[0], Usage())
		return 2
	}
	b := benchmarks()[i]
	progress, out := newProgress(stdout)
	defer progress.End()
	e := &env{out: out, command: args}
	fs := flag.NewFlagSet("holdfast bench "+b.name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	e.results = newCollector(args, progress)
	servers, pairs := cmp.Or(b.servers, "redis,holdfast"), b.pairs
	if !b.tool {
		e.define(fs, &b, &servers, &pairs)
	}
	if b.report {
		fs.StringVar(&e.output, "o", filepath.Join("docs", "bench", b.name+".md"), "`file` of the report; empty for none")
	}
	var outputs outputs
	if b.points {
		outputs.define(fs)
	}
	run := b.define(fs)
	if err := fs.Parse(args[1:]); err != nil {
		return 2
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "holdfast bench %s: unexpected argument %q\n", b.name, fs.Arg(0))
		return 2
	}
	err := oneRound(fs)
	if err == nil && !b.tool {
		err = e.choose(fs, servers, pairs)
	}
	if err == nil {
		err = outputs.prepare()
	}
	if err != nil {
		fmt.Fprintf(stderr, "holdfast bench %s: %v\n", b.name, err)
		return 2
	}
	if e.seed == 0 && !b.tool {
		// What makes the run again has the seed.
		e.seed = rand.Uint64()
		e.command = append(slices.Clone(args), "-seed", strconv.FormatUint(e.seed, 10))
		e.results.run.Command = e.command
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if outputs.dir != "" {
		err = e.results.lookAtDisk()
	}
	if err == nil {
		err = run(ctx, e)
	}
	progress.End()
	if err := errors.Join(err, outputs.save(stdout, &e.results.run, err)); err != nil {
		fmt.Fprintf(stderr, "holdfast bench %s: %v\n", b.name, err)
		return 1
	}
	return 0
}

// define declares the flags of everything that measures servers.
func (e *env) define(fs *flag.FlagSet, b *benchmark, servers, pairs *string) {
	fs.StringVar(&e.binary, "holdfast", "", "holdfast `program` to measure (default: this one)")
	if b.pairs == "" || b.both {
		fs.StringVar(servers, "servers", *servers, "which `servers`, in this order")
	}
	if b.pairs != "" {
		fs.StringVar(pairs, "pairs", *pairs, "which `pairs` of PRIMARY:REPLICA, in this order")
	}
	fs.Func("server", "`NAME=COMMAND`: a further server to measure, started by this command of the shell, in which {port}, {dir} and\n{policy} are replaced; may be given again", e.addServer)
	fs.Uint64Var(&e.seed, "seed", 0, "`seed` of random choices (default: a random one, told with the command in reports)")
	fs.BoolVar(&e.keepData, "keep", false, "leave the data directories of a failed run")
}

// oneRound holds that -rounds, where it was given, is one at least.
func oneRound(fs *flag.FlagSet) (err error) {
	fs.Visit(func(f *flag.Flag) {
		if g, ok := f.Value.(flag.Getter); ok && f.Name == "rounds" {
			if n, ok := g.Get().(int); ok && n < 1 {
				err = fmt.Errorf("-rounds %d: one at least", n)
			}
		}
	})
	return err
}

// Usage lists the benchmarks.
func Usage() string {
	var b strings.Builder
	b.WriteString("usage: holdfast bench NAME [flags]; holdfast bench NAME -h lists the flags\n\n")
	for _, x := range benchmarks() {
		fmt.Fprintf(&b, "  %-12s %s\n", x.name, x.help)
	}
	fmt.Fprintf(&b, "  %-12s %s\n", "report", "page and tables from a file of results, again")
	return b.String()
}

// list splits a flag at its commas.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// spec describes a server of a kind for this run.
func (e *env) spec(kind Kind, dir string, args ...string) Spec {
	s := Spec{Kind: kind, Dir: dir, Args: args}
	s.Command = e.commands[kind]
	if i := slices.Index(args, "--appendfsync"); i >= 0 && i+1 < len(args) {
		s.Policy = args[i+1]
	}
	if kind == Holdfast {
		s.Binary = e.binary
	}
	return s
}

// policyArgs are the directives that make a server durable in a way that compares: both write a log with the same fsync
// policy. Redis rewrites its log by itself only in the benchmarks that ask for it.
func policyArgs(kind Kind, policy string) []string {
	args := []string{"--appendfsync", policy}
	if kind == Redis {
		args = append(args, "--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
	}
	return args
}

// withServer starts a server on an empty directory, calls fn, stops the server and removes the directory.
func (e *env) withServer(ctx context.Context, kind Kind, args []string, fn func(p *Process) error) (err error) {
	dir, remove, err := tempDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.cleanUp(dir, remove, err)) }()
	p, err := Start(ctx, e.spec(kind, dir, args...))
	if err != nil {
		return err
	}
	// What the server has is thrown away: no need to let it end in order.
	defer func() { err = errors.Join(err, p.Kill()) }()
	return fn(p)
}

// cleanUp removes a data directory, or says where it is if the run failed and is to be looked at.
func (e *env) cleanUp(dir string, remove func() error, failed error) error {
	if failed != nil && e.keepData {
		fmt.Fprintf(e.out, "data left in %s\n", dir)
		return nil
	}
	return remove()
}
