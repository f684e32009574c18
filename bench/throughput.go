package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// throughputRun is how throughput is measured.
type throughputRun struct {
	mixes    []workload
	dist     string
	size     int // bytes of a value
	keys     int64
	conns    int
	depths   []int
	policies []string
	rate     float64 // 0 = closed loop
	warm     time.Duration
	each     time.Duration
	rounds   int
}

// drainWarm is the time that is not counted of a load that uses its data up.
const drainWarm = 100 * time.Millisecond

// throughputKey is one combination that is measured.
type throughputKey struct {
	server      Kind
	policy, mix string
	depth       int
}

func defineThroughput(fs *flag.FlagSet) func(context.Context, *env) error {
	c := throughputRun{}
	names := fs.String("mixes", "set,get,incr,lpush,rpop,sadd,hset,hget,zadd,lrange_100,mset,mget,ycsb-a,ycsb-b,ycsb-c,ycsb-d,ycsb-e,ycsb-f", "commands and `mixes`")
	depths := fs.String("p", "1,4,16,64", "`depths` of the pipeline, of the closed loop")
	policies := fs.String("policy", "always,everysec", "appendfsync `policies`")
	loop := fs.String("loop", "closed", "`closed`: as fast as they are answered; open: at -rate")
	rate := fs.Float64("rate", 20_000, "`requests` per second of the open loop")
	fs.StringVar(&c.dist, "dist", Uniform, "`distribution` of the keys: uniform, zipf, hotspot")
	fs.IntVar(&c.size, "d", valueSize, "`bytes` of a value")
	fs.Int64Var(&c.keys, "keys", 1_000_000, "`keys` to choose from")
	fs.IntVar(&c.conns, "c", 50, "`connections`")
	fs.DurationVar(&c.warm, "warm", time.Second, "`time` of load before each measurement")
	fs.DurationVar(&c.each, "t", 5*time.Second, "`time` of each measurement")
	fs.IntVar(&c.rounds, "rounds", 3, "`rounds`; the servers take turns in each")
	return func(ctx context.Context, e *env) (err error) {
		for _, name := range list(*names) {
			m, err := mixNamed(name)
			if err != nil {
				return fmt.Errorf("-mixes: %w", err)
			}
			c.mixes = append(c.mixes, m)
		}
		for _, text := range list(*depths) {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return fmt.Errorf("-p: %q is not a depth", text)
			}
			c.depths = append(c.depths, n)
		}
		if c.policies, err = among("-policy", *policies, "always", "everysec", "no"); err != nil {
			return err
		}
		switch {
		case *loop == "open" && *rate > 0:
			c.rate, c.depths = *rate, []int{1}
		case *loop != "closed":
			return fmt.Errorf("-loop: %q is neither closed nor open with a -rate above 0", *loop)
		}
		if c.size < 1 || c.keys < 1 || c.conns < 1 {
			return errors.New("-d, -keys and -c must be above 0")
		}
		if _, err := NewDistribution(c.dist, 1); err != nil {
			return err
		}
		e.results.expect(c.steps(e))
		r := NewReport(e.out, "Throughput", e.command)
		if err := e.throughput(ctx, r, c); err != nil {
			return err
		}
		return r.Save(e.output)
	}
}

// turns are the servers with their policies, the null server among them: what does not tell where its policy goes has one of its own.
func (c throughputRun) turns(e *env) (turns []throughputKey) {
	own := func(kind Kind) bool {
		command := e.commands[kind]
		return command != "" && !strings.Contains(command, "{policy}")
	}
	for i, policy := range c.policies {
		for _, kind := range e.servers {
			switch {
			case !own(kind):
				turns = append(turns, throughputKey{server: kind, policy: policy})
			case i == 0:
				turns = append(turns, throughputKey{server: kind, policy: "own"})
			}
		}
	}
	return append(turns, throughputKey{server: result.NullServer})
}

// steps is how many there are.
func (c throughputRun) steps(e *env) int {
	return len(c.turns(e)) * len(c.mixes) * len(c.depths) * c.rounds
}

// loop is the name of the loop.
func (c throughputRun) loop() string {
	if c.rate > 0 {
		return "open"
	}
	return "closed"
}

// throughput measures all mixes and adds their tables to the report.
func (e *env) throughput(ctx context.Context, r *Report, c throughputRun) error {
	how := "in a closed loop"
	if c.rate > 0 {
		how = fmt.Sprintf("at %s requests/s in an open loop, latency counted from when a request was due", thousands(c.rate))
	}
	r.Printf("%d connections driven by one thread, %s; keys of %d bytes, %s, %s of them; values of %d random bytes. Each server runs alone, on an empty directory for each\n"+
		"policy and round, where the data that a mix needs is written first; the server that begins alternates. %v after %v that are not counted. Requests per second,\n"+
		"medians of %d rounds; ratios are taken within a round: median (lowest–highest). \"null\" answers without doing anything: the generator's own limit.\n"+
		"Collections have %d elements; LRANGE reads a list of %d; MSET and MGET have %d keys; RPOP's lists are filled\n"+
		"before each measurement, which ends when they are empty.\n\n",
		c.conns, how, keyLen, c.dist, millions(c.keys), c.size, c.each, c.warm, c.rounds, perCollection, listLength, multiKeys)
	dist, err := NewDistribution(c.dist, c.keys)
	if err != nil {
		return err
	}
	rates := map[throughputKey][]float64{}
	for round := range c.rounds {
		for _, turn := range inTurn(c.turns(e), round) {
			args := policyArgs(turn.server, turn.policy)
			if turn.server == result.NullServer {
				args = []string{"-d", strconv.Itoa(c.size)}
			}
			err := e.withServer(ctx, turn.server, args, func(p *Process) error {
				return e.throughputOf(ctx, r, c, p, turn, dist, round, rates)
			})
			if err != nil {
				return fmt.Errorf("%s, appendfsync %s: %w", turn.server, turn.policy, err)
			}
		}
	}
	for _, policy := range append(slices.Clone(c.policies), "own") {
		for _, depth := range c.depths {
			if rows := c.table(e, rates, policy, depth); len(rows[0]) > 2 {
				r.Printf("## appendfsync %s, pipelines of %d\n\n", policy, depth)
				r.Table(rows)
			}
		}
	}
	return nil
}

// table compares the servers for one policy and one depth.
func (c throughputRun) table(e *env, rates map[throughputKey][]float64, policy string, depth int) [][]string {
	head := []string{"mix"}
	var shown []Kind
	for _, t := range c.turns(e) {
		if t.policy == policy && !slices.Contains(shown, t.server) {
			shown = append(shown, t.server)
			head = append(head, string(t.server))
		}
	}
	for _, kind := range shown {
		if kind != Redis && slices.Contains(shown, Redis) {
			head = append(head, string(kind)+" / redis")
		}
	}
	if len(shown) > 0 {
		head = append(head, "null")
	}
	rows := [][]string{head}
	for _, m := range c.mixes {
		row := []string{m.name}
		of := func(kind Kind, policy string) []float64 { return rates[throughputKey{kind, policy, m.name, depth}] }
		for _, kind := range shown {
			row = append(row, thousands(median(of(kind, policy))))
		}
		base := of(Redis, policy)
		for _, kind := range shown {
			if kind != Redis && slices.Contains(shown, Redis) {
				var ratios []float64
				for i, v := range of(kind, policy) {
					ratios = append(ratios, v/base[i])
				}
				row = append(row, spread(ratios, ratio))
			}
		}
		if len(shown) > 0 {
			row = append(row, thousands(median(of(result.NullServer, ""))))
		}
		rows = append(rows, row)
	}
	return rows
}

// throughputOf measures all mixes and depths of one server.
func (e *env) throughputOf(ctx context.Context, r *Report, c throughputRun, p *Process, turn throughputKey, dist *Distribution, round int, rates map[throughputKey][]float64) error {
	if err := e.known(p); err != nil {
		return err
	}
	made := c.keys
	there := map[need]bool{needNothing: true}
	for i, mix := range c.mixes {
		for _, depth := range c.depths {
			for _, need := range mix.needs.all() {
				if (!there[need] || mix.drains) && turn.server != result.NullServer {
					if err := need.fill(ctx, p, e.seed, dist, c.size, c.keys); err != nil {
						return fmt.Errorf("data for %s: %w", mix.name, err)
					}
				}
				there[need] = true
			}
			e.results.progress.Step(fmt.Sprintf("throughput of %s%s, %s, pipelines of %d", turn.server, behindComma(turn.policy), mix.name, depth), c.warm+c.each)
			m := newMixer(e.seed^uint64(round*1000+i*100+depth), dist, c.size, &made)
			var cpu, own [2]time.Duration
			warm, most := c.warm, int64(0)
			if mix.drains && turn.server != result.NullServer {
				warm, most = min(warm, drainWarm), c.keys
			}
			g := &Generator{Addr: p.Addr, Conns: c.conns, Pipeline: depth, Rate: c.rate, Warm: warm, Duration: c.each, Most: most,
				Request: func(dst, want []byte) ([]byte, []byte) { return mix.append(m, dst, want) },
				Mark: func(end bool) (err error) {
					at := 0
					if end {
						at = 1
					}
					own[at], err = ownCPU()
					if err == nil {
						cpu[at], err = p.CPU()
					}
					return err
				}}
			res, err := g.Run(ctx)
			if err != nil {
				return fmt.Errorf("%s, pipelines of %d: %w", mix.name, depth, err)
			}
			if res.Ops == 0 || res.Elapsed <= 0 {
				return fmt.Errorf("%s, pipelines of %d: nothing was answered within %v; more keys may be needed", mix.name, depth, c.each)
			}
			key := throughputKey{turn.server, turn.policy, mix.name, depth}
			rates[key] = append(rates[key], res.PerSecond())
			perOp := func(d [2]time.Duration) float64 { return (d[1] - d[0]).Seconds() * 1e6 / float64(res.Ops) }
			metrics := map[string]float64{"req/s": res.PerSecond(), "cpu-us/op": perOp(cpu), "generator-cpu-us/op": perOp(own)}
			if res.Nulls > 0 {
				metrics["null-%"] = 100 * float64(res.Nulls) / float64(res.Ops)
			}
			res.Latency.metrics("", metrics)
			names := []any{"mix", mix.name, "dist", c.dist, "value", c.size, "keys", c.keys, "conns", c.conns, "pipeline", depth, "loop", c.loop()}
			if turn.server != result.NullServer {
				names = append(names, "policy", turn.policy)
			}
			if c.rate > 0 {
				names = append(names, "rate", c.rate)
			}
			e.results.point(result.Point{Bench: result.Throughput, Subject: string(turn.server), Round: round + 1, Metrics: metrics, Params: params(names...),
				Latency: res.Latency.buckets(), Series: res.Series()})
			r.Run(fmt.Sprintf("Throughput/server=%s/policy=%s/mix=%s/pipeline=%d", turn.server, turn.policy, mix.name, depth), res.Ops,
				append(latencyMetrics(&res.Result), Metric{metrics["cpu-us/op"], "cpu-us/op"}, Metric{metrics["generator-cpu-us/op"], "generator-cpu-us/op"})...)
		}
	}
	return nil
}

func behindComma(s string) string {
	if s == "" {
		return ""
	}
	return ", " + s
}

// ownCPU is the processor time that this process has taken.
func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// all are the needs that one includes.
func (n need) all() []need {
	if n == needIndex {
		return []need{needStrings, needIndex}
	}
	return []need{n}
}

// fill writes what is needed.
func (n need) fill(ctx context.Context, p *Process, seed uint64, dist *Distribution, size int, keys int64) error {
	const conns = 8
	requests, request := n.provide(keys)
	_, err := Load{Addr: p.Addr, Conns: conns, Pipeline: 64, Ops: requests, Script: func(i int) Script {
		made := int64(0)
		return &provider{m: newMixer(seed+uint64(i), dist, size, &made), next: int64(i), step: conns, request: request}
	}}.Run(ctx)
	return errors.Join(err, ctx.Err())
}

// provider is the Script that writes data: every step-th request from next on.
type provider struct {
	m          *mixer
	next, step int64
	kind       byte // that all replies begin with
	request    func(*mixer, []byte, int64) ([]byte, byte)
}

func (s *provider) Append(dst []byte) []byte {
	dst, s.kind = s.request(s.m, dst, s.next)
	s.next += s.step
	return dst
}

func (s *provider) Check(r Reply) error {
	if r.Kind != s.kind {
		return fmt.Errorf("a write of data was answered %s", r)
	}
	return nil
}
