package bench

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"
)

// Paced is an open loop: commands are due at fixed times, whether or not the server has answered those before. A latency is
// counted from when its command was due, so that a pause of the server is seen by every command that fell into it; a closed
// loop would have sent one command and measured one long answer (coordinated omission).
type Paced struct {
	Addr   string
	Conns  int
	Rate   float64 // commands per second, over all connections
	Script func(conn int) Script
}

// PacedRun is a Paced that runs. Of a Script, Append and Check are called by two goroutines.
type PacedRun struct {
	stop   context.CancelFunc
	failed context.CancelCauseFunc
	ctx    context.Context
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		part  Result
		since time.Time
	}
}

// Start connects and begins. The run ends with Stop, or with ctx.
func (p Paced) Start(ctx context.Context) (*PacedRun, error) {
	clients := make([]*Client, 0, p.Conns)
	for range p.Conns {
		c, err := Dial(p.Addr)
		if err != nil {
			for _, c := range clients {
				c.Close()
			}
			return nil, err
		}
		clients = append(clients, c)
	}
	cause, failed := context.WithCancelCause(ctx)
	stopped, stop := context.WithCancel(cause)
	r := &PacedRun{stop: stop, failed: failed, ctx: cause}
	started := time.Now()
	r.mu.since = started
	every := time.Duration(float64(time.Second) * float64(p.Conns) / p.Rate)
	for i, c := range clients {
		first := started.Add(every * time.Duration(i) / time.Duration(p.Conns))
		script := p.Script(i)
		batches := make(chan int, 1<<16)
		r.wg.Go(func() {
			defer close(batches)
			if err := send(stopped, c, script, first, every, batches); err != nil {
				failed(err)
			}
		})
		r.wg.Go(func() {
			defer c.Close()
			if err := r.receive(c, script, first, every, batches); err != nil {
				failed(err)
				for range batches { // the sender must not wait for room
				}
			}
		})
	}
	return r, nil
}

// send writes what is due, and says how many commands each batch has.
func send(ctx context.Context, c *Client, s Script, first time.Time, every time.Duration, batches chan<- int) error {
	const most = 1024 // commands of a batch; more are due only after a pause
	var buf []byte
	for sent := int64(0); ; {
		if err := sleepUntil(ctx, first.Add(time.Duration(sent)*every)); err != nil {
			if ctx.Err() != nil {
				return nil // the end of the load
			}
			return err
		}
		due := int64(time.Since(first)/every) + 1 - sent
		if n := min(due, most); n > 0 {
			buf = buf[:0]
			for range n {
				buf = s.Append(buf)
			}
			batches <- int(n)
			if err := c.Send(buf); err != nil {
				return err
			}
			sent += n
		}
	}
}

// sleepUntil waits for a time, to some 0.1 ms: Go's timers are late by up to a millisecond in a process that is idle otherwise (its
// poller waits in whole ones), which would be measured as the server's.
func sleepUntil(ctx context.Context, at time.Time) error {
	const coarse = 2 * time.Millisecond
	if d := time.Until(at); d > coarse {
		if err := wait(ctx, d-coarse); err != nil {
			return err
		}
	}
	for {
		d := time.Until(at)
		if d <= 0 {
			return ctx.Err()
		}
		ts := syscall.NsecToTimespec(int64(d))
		if err := syscall.Nanosleep(&ts, nil); err != nil && err != syscall.EINTR {
			return err
		}
	}
}

func (r *PacedRun) receive(c *Client, s Script, first time.Time, every time.Duration, batches <-chan int) error {
	received := int64(0)
	for n := range batches {
		for range n {
			reply, err := c.Read()
			if err != nil {
				return err
			}
			if err := s.Check(reply); err != nil {
				return err
			}
			took := time.Since(first.Add(time.Duration(received) * every))
			received++
			r.mu.Lock()
			r.mu.part.Ops++
			r.mu.part.Latency.Record(took)
			r.mu.Unlock()
		}
	}
	return nil
}

// Cut returns what was measured since the last Cut or the start.
func (r *PacedRun) Cut() *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	part := r.mu.part
	part.Elapsed = now.Sub(r.mu.since)
	r.mu.part, r.mu.since = Result{}, now
	return &part
}

// Stop sends no more, waits for the answers that are due, and returns the error that ended the run before, if any.
func (r *PacedRun) Stop() error {
	r.stop()
	r.wg.Wait()
	err := context.Cause(r.ctx)
	r.failed(nil)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
