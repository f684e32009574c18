package bench

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// redisTests are the tests of redis-benchmark that are run when none are named.
const redisTests = "set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100,mset"

// redisRun is one combination that is measured.
type redisRun struct {
	policy, pipeline, test string
}

func defineRedis(fs *flag.FlagSet) func(context.Context, *env) error {
	tests := fs.String("tests", redisTests, "`tests` of redis-benchmark")
	pipelines := fs.String("p", "1,16", "`depths` of the pipeline")
	policies := fs.String("policy", "always,everysec", "appendfsync `policies`")
	rounds := fs.Int("rounds", 3, "`rounds`; the servers take turns in each")
	n := fs.Int("n", 200_000, "`requests` of one measurement without pipeline; four times as many with one")
	clients := fs.Int("c", 50, "`connections`")
	size := fs.Int("d", 100, "`bytes` of a value")
	keys := fs.Int("r", 1_000_000, "`keys` to choose from")
	return func(ctx context.Context, e *env) error {
		r := NewReport(e.out, "redis-benchmark", e.command)
		r.Printf("redis-benchmark -c %d -d %d -r %d -n %d (-P 1) or %d (pipelined). Each server runs alone, on an empty directory for each\n"+
			"policy and round; the server that begins alternates. Requests per second, medians of %d rounds; ratios are taken within a round:\n"+
			"median (lowest–highest). Redis with appendonly yes, the same appendfsync, no save points, no rewrite of its log.\n\n",
			*clients, *size, *keys, *n, 4**n, *rounds)
		rates := map[Kind]map[redisRun][]float64{Redis: {}, Holdfast: {}}
		for round := range *rounds {
			for _, policy := range list(*policies) {
				servers := slices.Clone(e.servers)
				if round%2 == 1 {
					slices.Reverse(servers)
				}
				for _, kind := range servers {
					err := e.withServer(ctx, kind, policyArgs(kind, policy), func(p *Process) error {
						for _, depth := range list(*pipelines) {
							for _, test := range list(*tests) {
								requests := *n
								if depth != "1" {
									requests *= 4
								}
								rps, p50, p99, err := redisBenchmark(ctx, p.Addr, test, depth, *clients, *size, *keys, requests)
								if err != nil {
									return fmt.Errorf("%s, %s, -P %s: %w", kind, test, depth, err)
								}
								key := redisRun{policy, depth, test}
								rates[kind][key] = append(rates[kind][key], rps)
								r.Run(fmt.Sprintf("RedisBenchmark/server=%s/policy=%s/pipeline=%s/test=%s", kind, policy, depth, strings.ToUpper(test)),
									int64(requests), Metric{rps, "req/s"}, Metric{p50, "p50-ms"}, Metric{p99, "p99-ms"})
							}
						}
						return noErrors(p)
					})
					if err != nil {
						return err
					}
				}
			}
		}
		for _, policy := range list(*policies) {
			for _, depth := range list(*pipelines) {
				r.Printf("## appendfsync %s, -P %s\n\n", policy, depth)
				r.Table(redisTable(rates, list(*tests), policy, depth))
			}
		}
		return r.Save(e.output)
	}
}

// noErrors holds that the server answered no error: redis-benchmark counts error replies as work done.
func noErrors(p *Process) error {
	info, err := p.Info()
	if err != nil {
		return err
	}
	n, err := infoInt(info, "total_error_replies")
	if err != nil {
		return err
	}
	if n > 0 {
		return fmt.Errorf("%s answered %d requests of redis-benchmark with errors", p.Spec.Kind, n)
	}
	return nil
}

// redisTable compares the servers for one policy and one depth.
func redisTable(rates map[Kind]map[redisRun][]float64, tests []string, policy, depth string) [][]string {
	rows := [][]string{{"test", "redis", "holdfast", "holdfast / redis"}}
	for _, test := range tests {
		key := redisRun{policy, depth, test}
		row := []string{strings.ToUpper(test), "–", "–", "–"}
		redis, ours := rates[Redis][key], rates[Holdfast][key]
		if len(redis) > 0 {
			row[1] = thousands(median(redis))
		}
		if len(ours) > 0 {
			row[2] = thousands(median(ours))
		}
		var ratios []float64
		for i := range min(len(redis), len(ours)) {
			ratios = append(ratios, ours[i]/redis[i])
		}
		row[3] = spread(ratios, ratio)
		rows = append(rows, row)
	}
	return rows
}

// redisBenchmark runs one test of redis-benchmark and returns requests per second and two quantiles of latency in ms.
func redisBenchmark(ctx context.Context, addr, test, depth string, clients, size, keys, requests int) (rps, p50, p99 float64, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, 0, 0, err
	}
	cmd := exec.CommandContext(ctx, "redis-benchmark", "-h", host, "-p", port, "-t", test, "-P", depth, "-c", strconv.Itoa(clients),
		"-d", strconv.Itoa(size), "-r", strconv.Itoa(keys), "-n", strconv.Itoa(requests), "--csv")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, 0, 0, fmt.Errorf("redis-benchmark: %w: %s %s", err, bytes.TrimSpace(stderr.Bytes()), lastLine(out))
	}
	return parseRedisBenchmark(out, test)
}

// parseRedisBenchmark finds the row of a test in redis-benchmark's CSV; LRANGE's is preceded by that of the list's filling.
func parseRedisBenchmark(out []byte, test string) (rps, p50, p99 float64, err error) {
	// Errors that the server answered stand before the table, as lines of their own.
	at := bytes.Index(out, []byte(`"test","rps"`))
	if at < 0 {
		return 0, 0, 0, fmt.Errorf("redis-benchmark printed no table: %s", lastLine(out))
	}
	rows, err := csv.NewReader(bytes.NewReader(out[at:])).ReadAll()
	if err != nil {
		return 0, 0, 0, fmt.Errorf("redis-benchmark's table: %w", err)
	}
	column := func(row []string, name string) float64 {
		i := slices.Index(rows[0], name)
		if i < 0 || i >= len(row) {
			err = errors.Join(err, fmt.Errorf("redis-benchmark's table has no %s", name))
			return 0
		}
		v, perr := strconv.ParseFloat(row[i], 64)
		err = errors.Join(err, perr)
		return v
	}
	for _, row := range rows[1:] {
		name, _, _ := strings.Cut(row[0], " ")
		if strings.EqualFold(name, test) && !strings.Contains(row[0], "needed") {
			rps, p50, p99 = column(row, "rps"), column(row, "p50_latency_ms"), column(row, "p99_latency_ms")
			if err == nil && rps <= 0 {
				err = fmt.Errorf("redis-benchmark measured %v requests/s for %s", rps, test)
			}
			return rps, p50, p99, err
		}
	}
	return 0, 0, 0, fmt.Errorf("redis-benchmark's table has no row for %s", test)
}

func lastLine(b []byte) []byte {
	b = bytes.TrimSpace(b)
	return b[bytes.LastIndexByte(b, '\n')+1:]
}
