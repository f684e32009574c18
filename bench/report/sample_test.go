package report

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// sample is a run as `holdfast bench all` leaves it, with figures that two servers could have: every plot appears, and rounds differ by
// a few per cent. The same seed gives the same run.
type sample struct {
	run *result.Run
	rng *rand.Rand
}

func sampleRun(rounds int, faster float64) *result.Run {
	at := time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC)
	s := &sample{rng: rand.New(rand.NewPCG(7, uint64(rounds)))}
	s.run = &result.Run{
		Version: result.Version, Command: []string{"all", "-quick", "-out", "bench/results"}, Started: at, Ended: at.Add(9*time.Minute + 41*time.Second),
		Machine: result.Machine{CPU: "AMD EPYC 9254 24-Core Processor", Cores: 8, MemoryBytes: 32 << 30, Kernel: "linux 6.12.9", Go: "go1.26.0",
			Disk: "ext4 on /dev/nvme0n1", FsyncP50: 0.00041, FsyncP99: 0.0023, LoadAverage: [3]float64{0.08, 0.11, 0.2}},
		Subjects: []result.Subject{
			{Name: "redis", Kind: "redis", Version: "7.0.15", Command: "redis-server --port {port} --dir {dir} --appendonly yes --appendfsync everysec"},
			{Name: "holdfast", Kind: "holdfast", Version: "0.9.0 4be1c27f0a31", Command: "holdfast server --port {port} --dir {dir} --appendfsync everysec"},
		},
		Notes: []string{"Primary, replica and load generator share one machine."},
	}
	for round := 1; round <= rounds; round++ {
		s.throughput(round, faster)
		s.cow(round)
		s.outage(round)
		s.sync(round)
		s.restart(round)
	}
	return s.run
}

// about varies a figure by some per cent.
func (s *sample) about(v float64) float64 {
	return math.Round(v*(1+0.06*(s.rng.Float64()-0.5))*1e4) / 1e4
}

func (s *sample) add(bench, subject string, round int, params map[string]string, metrics map[string]float64) *result.Point {
	s.run.Points = append(s.run.Points, result.Point{Bench: bench, Subject: subject, Params: params, Round: round, Metrics: metrics})
	return &s.run.Points[len(s.run.Points)-1]
}

// distribution has n latencies around mid with a long tail.
func (s *sample) distribution(mid float64, n int64) []result.Bucket {
	var out []result.Bucket
	left := n
	for ms := mid / 4; left > 0; ms *= 1.07 {
		share := 0.02
		switch {
		case ms > mid*12:
			share = 0.02
		case ms > mid*3:
			share = 0.12
		case ms > mid*0.8:
			share = 0.22
		}
		c := max(int64(float64(left)*share), 1)
		out = append(out, result.Bucket{Ms: math.Round(ms*1e5) / 1e5, Count: min(c, left)})
		left -= c
	}
	return out
}

func (s *sample) seconds(n int, mid, spike float64, every int) []result.Sample {
	var out []result.Sample
	for i := range n {
		v := s.about(mid)
		if i%every == every-1 {
			v = s.about(spike)
		}
		out = append(out, result.Sample{T: float64(i + 1), Value: v})
	}
	return out
}

func (s *sample) throughput(round int, faster float64) {
	one := map[string]float64{"get": 92e3, "set": 78e3, "incr": 81e3, "lrange_100": 31e3, "ycsb-a": 84e3, "ycsb-e": 26e3}
	for _, mix := range []string{"get", "set", "incr", "lrange_100", "ycsb-a", "ycsb-e"} {
		for _, depth := range []int{1, 4, 16, 64} {
			base := map[string]string{"mix": mix, "dist": "zipf", "value": "100", "keys": "1000000", "conns": "50", "pipeline": strconv.Itoa(depth), "loop": "closed"}
			gain := one[mix] * math.Pow(float64(depth), 0.62)
			p := s.add(result.Throughput, result.NullServer, round, base, map[string]float64{"req/s": s.about(gain * 2.9), "generator-cpu-us/op": 1.1})
			p.Latency = s.distribution(0.05, 40_000)
			for _, policy := range []string{"always", "everysec"} {
				for _, sub := range []string{"redis", "holdfast"} {
					rate, mid := gain, 0.4
					if policy == "always" {
						rate, mid = gain*0.55, 1.3
					}
					if sub == "holdfast" {
						rate *= faster * (0.85 + 0.09*math.Log2(float64(depth)+1))
						mid *= 0.8
					}
					params := maps.Clone(base)
					params["policy"] = policy
					p := s.add(result.Throughput, sub, round, params, map[string]float64{"req/s": s.about(rate), "p50-ms": s.about(mid), "p99-ms": s.about(mid * 4),
						"p99.9-ms": s.about(mid * 9), "max-ms": s.about(mid * 40), "cpu-us/op": s.about(1e6 / rate), "generator-cpu-us/op": 1.1})
					p.Latency = s.distribution(mid, 60_000)
					p.Series = map[string][]result.Sample{"req/s": s.seconds(20, rate, rate*0.8, 7), "p99-ms": s.seconds(20, mid*4, mid*16, 7)}
				}
			}
		}
	}
}

func (s *sample) cow(round int) {
	point := func(rate, dist, value, keys string) {
		r, err := strconv.ParseFloat(rate, 64)
		if err != nil {
			r = 90_000
		}
		v, _ := strconv.ParseFloat(value, 64)
		k, _ := strconv.ParseFloat(keys, 64)
		skew := map[string]float64{"uniform": 1, "zipf": 0.55, "hotspot": 0.3}[dist]
		data := k * (v + 110)
		copied := data * (1 - math.Exp(-r*3*4096/data/4)) * skew
		for _, sub := range []string{"redis", "holdfast"} {
			params := map[string]string{"rate": rate, "dist": dist, "value": value, "keys": keys}
			m := map[string]float64{"extra-B": s.about(copied*1.1 + 9e6), "copied-B": s.about(copied), "own-B": s.about(copied), "pause-ms": s.about(6 + k/60e3),
				"fork-ms": s.about(4 + k/80e3), "p50-ms": 0.2, "p99-ms": s.about(3), "p99.9-ms": s.about(5 + k/80e3 + r/3e3), "quiet-p99.9-ms": s.about(1.4), "took-s": s.about(data / 9e7),
				"disk-B": data * 0.9, "rate-got": s.about(r)}
			if sub == "holdfast" {
				m["extra-B"], m["copied-B"], m["own-B"] = s.about(r*float64(v+80)*0.6)-3e6, s.about(r*float64(v)*0.5*skew), s.about(r*float64(v)*0.5*skew)
				m["pause-ms"], m["fork-ms"], m["p99.9-ms"] = s.about(1.9), s.about(0.4), s.about(2.2)
			}
			p := s.add(result.Cow, sub, round, params, m)
			p.Series = map[string][]result.Sample{"p99-ms": s.seconds(12, 1.1, m["p99.9-ms"], 8)}
			for i := range p.Series["p99-ms"] {
				p.Series["p99-ms"][i].T -= 6
			}
		}
	}
	for _, rate := range []string{"0", "1000", "5000", "20000", "50000", "max"} {
		point(rate, "uniform", "100", "1000000")
	}
	point("20000", "hotspot", "100", "1000000")
	point("20000", "zipf", "100", "1000000")
	for _, value := range []string{"1000", "10000"} {
		point("20000", "uniform", value, "1000000")
	}
	for _, keys := range []string{"100000", "300000", "3000000"} {
		point("20000", "uniform", "100", keys)
	}
}

func (s *sample) outage(round int) {
	for _, how := range []string{"cut", "kill"} {
		for _, mib := range []float64{64, 128, 256, 512, 1024} {
			replay, snap := mib/95+0.3, 2.1+mib/2500
			for _, sub := range []string{"redis", "holdfast"} {
				choices := []string{"replay", "snapshot"}
				if sub == "holdfast" {
					choices = append(choices, "auto")
				}
				for _, choice := range choices {
					took, extra := replay, mib*1.4*(1<<20)
					if choice == "snapshot" || choice == "auto" && snap < replay {
						took, extra = snap, 480*float64(1<<20)
					}
					if sub == "holdfast" {
						took, extra = took/2.1, 11*float64(1<<20)
					}
					m := map[string]float64{"took-s": s.about(took), "MB/s": s.about(mib / took), "extra-B": s.about(extra), "p99-ms": s.about(2), "p99.9-ms": s.about(6 + mib/90), "max-ms": s.about(40)}
					if sub == "holdfast" {
						m["p99.9-ms"] = s.about(4)
						m["estimate-replay-s"], m["estimate-snapshot-s"] = s.about(replay/2.1*0.9), s.about(snap/2.1*1.3)
						m["chose-snapshot"] = 0
						if snap*1.3 < replay*0.9 {
							m["chose-snapshot"] = 1
						}
					}
					s.add(result.Outage, sub, round, map[string]string{"bytes": fmt.Sprintf("%.0fm", mib), "overwrite": "100", "keys": "1000000", "choice": choice, "how": how}, m)
				}
			}
		}
	}
}

func (s *sample) sync(round int) {
	for _, load := range []string{"none", "full"} {
		for i, pair := range [][2]string{{"redis", "redis"}, {"holdfast", "holdfast"}, {"holdfast", "redis"}, {"redis", "holdfast"}} {
			took := []float64{10.6, 1.05, 6.2, 13.3}[i]
			extra := []float64{73 << 20, -40 << 20, -12 << 20, 102 << 20}[i]
			m := map[string]float64{"link-s": s.about(took * 0.9), "cpu-s": s.about(took), "keys/s": s.about(3e6 / took), "MB/s": s.about(360 / took), "wire-B": s.about(400e6),
				"p99.9-ms": s.about(3 + 20*float64(i%3)), "quiet-p99.9-ms": s.about(1.2)}
			if load == "full" {
				took, extra = took*2.1, extra*6
				m["before-req/s"], m["during-req/s"] = s.about(94e3), s.about(94e3*[]float64{0.44, 0.6, 0.57, 0.4}[i])
			}
			m["took-s"], m["extra-B"] = s.about(took), math.Round(s.about(extra))
			p := s.add(result.Sync, pair[0], round, map[string]string{"peer": pair[1], "load": load, "keys": "3000000"}, m)
			p.Series = map[string][]result.Sample{"max-ms": s.seconds(int(took)+3, 2, 30, 5)}
		}
	}
}

func (s *sample) restart(round int) {
	for _, keys := range []string{"100000", "1000000", "3000000"} {
		k, _ := strconv.ParseFloat(keys, 64)
		for _, how := range []string{"sigterm", "kill9"} {
			r, h := k/1.2e6+0.03, 0.06
			if how == "kill9" {
				r, h = k/0.72e6+0.03, 0.21
			}
			s.add(result.Restart, "redis", round, map[string]string{"keys": keys, "how": how}, map[string]float64{"took-s": s.about(r)})
			s.add(result.Restart, "holdfast", round, map[string]string{"keys": keys, "how": how}, map[string]float64{"took-s": s.about(h)})
		}
	}
}
