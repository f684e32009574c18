package bench

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Script is what one connection of the load generator says. Append and Check are called by one goroutine; Check gets the
// replies in the order of the commands.
type Script interface {
	Append(dst []byte) []byte // appends the next command in RESP
	Check(r Reply) error      // judges the reply to the oldest command not judged yet
}

// Load is a closed loop: each connection writes a pipeline, reads its replies, and goes on.
type Load struct {
	Addr     string
	Conns    int
	Pipeline int
	Ops      int64         // commands in all, divided among the connections; 0 = until Duration or ctx ends
	Duration time.Duration // 0 = until Ops are done or ctx ends
	Script   func(conn int) Script
}

// Result is what a load measured. Latency is the time from before the pipeline was written to when the reply was read.
type Result struct {
	Ops     int64
	Elapsed time.Duration
	Latency Histogram
}

// PerSecond is the throughput.
func (r *Result) PerSecond() float64 { return float64(r.Ops) / r.Elapsed.Seconds() }

// Run runs the load. A wrong reply ends it with an error. When ctx ends, the replies of what was sent are awaited first.
func (l Load) Run(ctx context.Context) (*Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clients := make([]*Client, 0, l.Conns)
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	for range l.Conns {
		c, err := Dial(l.Addr)
		if err != nil {
			return nil, err
		}
		clients = append(clients, c)
	}
	started := time.Now()
	var deadline time.Time
	if l.Duration > 0 {
		deadline = started.Add(l.Duration)
	}
	var wg sync.WaitGroup
	parts := make([]Result, l.Conns)
	for i, c := range clients {
		wg.Go(func() {
			ops := int64(-1)
			if l.Ops > 0 {
				ops = share(l.Ops, l.Conns, i)
			}
			if err := l.converse(ctx, c, l.Script(i), ops, deadline, &parts[i]); err != nil {
				cancel(fmt.Errorf("connection %d of the load: %w", i, err))
			}
		})
	}
	wg.Wait()
	res := &Result{Elapsed: time.Since(started)}
	for i := range parts {
		res.Ops += parts[i].Ops
		res.Latency.Merge(&parts[i].Latency)
	}
	if err := context.Cause(ctx); err != nil && err != context.Canceled && err != context.DeadlineExceeded {
		return res, err
	}
	return res, nil
}

// share is how many of n the i-th of parts gets.
func share(n int64, parts, i int) int64 {
	s := n / int64(parts)
	if int64(i) < n%int64(parts) {
		s++
	}
	return s
}

// converse runs one connection; ops < 0 is no limit.
func (l Load) converse(ctx context.Context, c *Client, s Script, ops int64, deadline time.Time, res *Result) error {
	var buf []byte
	for ops != 0 && ctx.Err() == nil {
		n := int64(l.Pipeline)
		if ops > 0 {
			n = min(n, ops)
			ops -= n
		}
		buf = buf[:0]
		for range n {
			buf = s.Append(buf)
		}
		sent := time.Now()
		if err := c.Send(buf); err != nil {
			return err
		}
		var now time.Time
		for range n {
			r, err := c.Read()
			if err != nil {
				return err
			}
			if err := s.Check(r); err != nil {
				return err
			}
			now = time.Now()
			res.Latency.Record(now.Sub(sent))
		}
		res.Ops += n
		if !deadline.IsZero() && now.After(deadline) {
			return nil
		}
	}
	return nil
}
