// Package verify proves that servers hold the same data at the same offset while writes go on, or names the keys that differ.
//
// Between Holdfasts: the primary puts a mark into its stream, and every server keeps a view of its data just behind it. Digests of
// ranges of keys are computed from these views on all servers at once, and only ranges that differ are looked into, down to the keys.
// That is exact, and costs clients nothing but the reading.
//
// With a redis-server among them there is no view to look at: writes are paused on the primary until all stand at one offset, and
// compared there (barrier.go).
//
// It knows servers only as what answers commands; it holds no locks and starts goroutines that end with its calls.
package verify

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
)

// Server answers commands. Replies are as go-redis gives them: int64, string, []any, nil for null.
type Server interface {
	Addr() string
	Do(ctx context.Context, args ...any) (any, error)
	// Pipeline sends commands together. An error reply stands in its place as an error.
	Pipeline(ctx context.Context, commands [][]any) ([]any, error)
}

// Options say how to compare.
type Options struct {
	// MaxDifferences is how many differing keys are named. At marks the comparison ends with them. 0: 100.
	MaxDifferences int
	// Wait is for how long a replica may take to reach the mark, or the offset of the barrier. 0: 60 s.
	Wait time.Duration
	// MaxPause is for how long a barrier may hold back the clients' writes. 0: 30 s.
	MaxPause time.Duration
	// NoPause never holds writes back: with a redis-server among the servers the comparison is then no proof.
	NoPause bool
	// Dial connects to a server that was not named: the primary of those that were.
	Dial func(addr string) (Server, error)
	// Progress, if not nil, is told now and then in a few words what is done.
	Progress func(text string)
}

// How a key differs from the first server's.
const (
	Missing = "missing"
	Extra   = "extra"
	Type    = "type"
	Value   = "value"
	TTL     = "ttl"
)

// Difference is one key on one server, compared with the first server.
type Difference struct {
	Server string `json:"server"`
	DB     int    `json:"db"`
	Key    string `json:"key"`
	How    string `json:"how"`
	Detail string `json:"detail,omitempty"`
}

// ServerState is what was compared of a server.
type ServerState struct {
	Addr   string `json:"addr"`
	Role   string `json:"role"`
	ReplID string `json:"replication_id,omitempty"`
	Offset int64  `json:"offset"`
	Keys   int64  `json:"keys"`
}

// Report is the outcome.
type Report struct {
	Servers     []ServerState `json:"servers"`
	Offset      int64         `json:"offset"`
	Keys        int64         `json:"keys"` // of the first server
	Differing   int64         `json:"differing"`
	Differences []Difference  `json:"differences"`
	// Truncated says that the comparison ended with MaxDifferences: there are ranges that differ and were not looked into.
	Truncated bool          `json:"truncated"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	// Waited is how much of Elapsed went by until all servers stood at the mark: checkpoints, and replicas that catch up.
	Waited    time.Duration `json:"waited_ns"`
	Guarantee string        `json:"guarantee"`
}

// Same tells whether no difference was found.
func (r *Report) Same() bool { return r.Differing == 0 }

// ErrTooFew says that there is nothing to compare.
var ErrTooFew = errors.New("at least two servers are needed")

// Run compares servers; the first is what the others are measured by.
func Run(ctx context.Context, servers []Server, o Options) (*Report, error) {
	if len(servers) < 2 {
		return nil, ErrTooFew
	}
	if o.MaxDifferences <= 0 {
		o.MaxDifferences = 100
	}
	if o.Wait <= 0 {
		o.Wait = time.Minute
	}
	if o.MaxPause <= 0 {
		o.MaxPause = 30 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	start := time.Now()
	c := &comparison{o: o, servers: servers, report: &Report{Differences: []Difference{}}}
	exact := true
	for _, s := range servers {
		info, err := serverInfo(ctx, s)
		if err != nil {
			return nil, err
		}
		exact = exact && info["holdfast_version"] != ""
		c.report.Servers = append(c.report.Servers, ServerState{Addr: s.Addr(), Role: info["role"]})
	}
	primary, err := c.primary(ctx)
	if err != nil {
		return nil, err
	}
	if exact {
		info, err := serverInfo(ctx, primary)
		if err != nil {
			return nil, err
		}
		exact = info["holdfast_version"] != ""
	}
	if exact {
		err = c.marked(ctx, primary)
	} else {
		err = c.barrier(ctx, primary)
	}
	if err != nil {
		return nil, err
	}
	sort.SliceStable(c.report.Differences, func(i, j int) bool {
		a, b := &c.report.Differences[i], &c.report.Differences[j]
		if a.DB != b.DB {
			return a.DB < b.DB
		}
		return a.Key < b.Key
	})
	c.report.Elapsed = time.Since(start)
	return c.report, nil
}

// comparison is one Run.
type comparison struct {
	o       Options
	servers []Server
	report  *Report
	// digested counts the keys of the first server that have been compared by digests.
	digested uint64
}

func (c *comparison) differ(d Difference) {
	c.report.Differing++
	if len(c.report.Differences) < c.o.MaxDifferences {
		c.report.Differences = append(c.report.Differences, d)
	}
}

// maxChain bounds the replicas between a server and its primary.
const maxChain = 32

// primary finds the one primary of all servers.
func (c *comparison) primary(ctx context.Context) (Server, error) {
	var top Server
	for _, s := range c.servers {
		at := s
		for hops := 0; ; hops++ {
			info, err := serverInfo(ctx, at)
			if err != nil {
				return nil, err
			}
			if info["role"] == "master" {
				break
			}
			if hops == maxChain {
				return nil, fmt.Errorf("%s: no primary found behind %d replicas", s.Addr(), maxChain)
			}
			addr := info["master_host"] + ":" + info["master_port"]
			if strings.Contains(info["master_host"], ":") {
				addr = "[" + info["master_host"] + "]:" + info["master_port"]
			}
			if at, err = c.server(addr); err != nil {
				return nil, fmt.Errorf("the primary of %s: %w", s.Addr(), err)
			}
		}
		if top == nil {
			top = at
		}
		if !c.one(ctx, top, at) {
			return nil, fmt.Errorf("%s and %s are not of one primary: %s and %s", c.servers[0].Addr(), s.Addr(), top.Addr(), at.Addr())
		}
	}
	return top, nil
}

// one tells whether two addresses are of the same process.
func (c *comparison) one(ctx context.Context, a, b Server) bool {
	if a.Addr() == b.Addr() {
		return true
	}
	x, err := serverInfo(ctx, a)
	if err != nil {
		return false
	}
	y, err := serverInfo(ctx, b)
	return err == nil && x["run_id"] == y["run_id"]
}

func (c *comparison) server(addr string) (Server, error) {
	for _, s := range c.servers {
		if s.Addr() == addr {
			return s, nil
		}
	}
	if c.o.Dial == nil {
		return nil, fmt.Errorf("%s was not named", addr)
	}
	return c.o.Dial(addr)
}

// serverInfo returns the fields of INFO.
func serverInfo(ctx context.Context, s Server) (map[string]string, error) {
	r, err := s.Do(ctx, "INFO", "everything")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Addr(), err)
	}
	text, ok := r.(string)
	if !ok {
		return nil, fmt.Errorf("%s: INFO answered %T", s.Addr(), r)
	}
	info := map[string]string{}
	for line := range strings.SplitSeq(text, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			info[name] = value
		}
	}
	return info, nil
}
