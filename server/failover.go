package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-db/holdfast/replication"
	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

// FAILOVER: the role is handed to a replica without losing a write and without a full sync. Writes are held back, the replica
// gets the last byte, this server becomes a replica, and then asks the other to become the primary.

// States as INFO names them.
const (
	noFailover         = "no-failover"
	failoverWaitSync   = "waiting-for-sync"
	failoverInProgress = "failover-in-progress"
)

// failoverState is the failover under way.
type failoverState struct {
	outcome chan error // of the target's answer

	mu struct {
		sync.Mutex
		state  string
		cancel context.CancelCauseFunc
		done   chan struct{}
	}
}

func (f *failoverState) init() {
	f.outcome = make(chan error, 1)
	f.mu.state = noFailover
}

func (f *failoverState) state() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.state
}

func (f *failoverState) active() bool { return f.state() != noFailover }

func (f *failoverState) set(state string) {
	f.mu.Lock()
	f.mu.state = state
	f.mu.Unlock()
}

// told is the Replica's OnFailover.
func (f *failoverState) told(err error) {
	select {
	case f.outcome <- err:
	default: // nobody waits any more
	}
}

// abort ends a failover, and waits for that. It tells whether there was one.
func (f *failoverState) abort(why error) bool {
	f.mu.Lock()
	cancel, done := f.mu.cancel, f.mu.done
	if f.mu.state == noFailover {
		f.mu.Unlock()
		return false
	}
	f.mu.Unlock()
	cancel(why)
	<-done
	return true
}

// failoverPlan is a FAILOVER's arguments.
type failoverPlan struct {
	to      *replication.Target // nil: the replica that is furthest
	timeout time.Duration       // 0: none
	force   bool
}

func (s *session) cmdFailover(args [][]byte) {
	w := s.conn.Out()
	r := &s.srv.repl
	if len(args) == 2 && isWord(args[1], "abort") {
		if !r.failover.abort(errors.New("Failover manually aborted")) {
			w.Error("ERR No failover in progress.")
			return
		}
		w.OK()
		return
	}
	var p failoverPlan
	for i := 1; i < len(args); i++ {
		switch {
		case isWord(args[i], "timeout") && i+1 < len(args) && p.timeout == 0:
			ms, ok := command.ParseInt(args[i+1])
			if !ok {
				w.Error(reply.NotInt)
				return
			}
			if ms <= 0 {
				w.Error("ERR FAILOVER timeout must be greater than 0")
				return
			}
			p.timeout = time.Duration(min(ms, int64(time.Hour*24*365/time.Millisecond))) * time.Millisecond
			i++
		case isWord(args[i], "to") && i+2 < len(args) && p.to == nil:
			port, ok := command.ParseInt(args[i+2])
			if !ok {
				w.Error(reply.NotInt)
				return
			}
			p.to = &replication.Target{Host: string(args[i+1]), Port: int(port)}
			i += 2
		case isWord(args[i], "force") && !p.force:
			p.force = true
		default:
			w.Error(reply.Syntax)
			return
		}
	}
	if text := s.srv.startFailover(p); text != "" {
		w.Error(text)
		return
	}
	w.OK()
}

// startFailover begins a failover in the background. It returns the error for the client, "" if it has begun.
func (s *Server) startFailover(p failoverPlan) string {
	r := &s.repl
	if !r.change.TryLock() {
		return "ERR FAILOVER already in progress."
	}
	defer r.change.Unlock()
	f := &r.failover
	replicas := r.primary.Replicas()
	switch {
	case f.active():
		return "ERR FAILOVER already in progress."
	case r.following.Load() != nil:
		return "ERR FAILOVER is not valid when server is a replica."
	case len(replicas) == 0:
		return "ERR FAILOVER requires connected replicas."
	case p.force && (p.timeout == 0 || p.to == nil):
		return "ERR FAILOVER with force option requires both a timeout and target HOST and IP."
	}
	if p.to != nil {
		found := false
		for _, i := range replicas {
			if i.IP == p.to.Host && i.Port == p.to.Port {
				found = true
				if i.State != replication.StateOnline {
					return "ERR FAILOVER target replica is not online."
				}
			}
		}
		if !found {
			return "ERR FAILOVER target HOST and PORT is not a replica."
		}
		r.log.Info(fmt.Sprintf("FAILOVER requested to %s:%d.", p.to.Host, p.to.Port))
	} else {
		r.log.Info("FAILOVER requested.")
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	done := make(chan struct{})
	f.mu.Lock()
	f.mu.state, f.mu.cancel, f.mu.done = failoverWaitSync, cancel, done
	f.mu.Unlock()
	s.wg.Go(func() {
		defer close(done)
		defer cancel(nil)
		if err := s.failover(ctx, p); err != nil {
			r.log.Warn("Failover aborted: " + err.Error())
		}
		f.set(noFailover)
	})
	return ""
}

// failoverPause is for how long writes are held back at most, should nothing else end it.
const failoverPause = 24 * time.Hour

// failover runs one, to its end or its abort.
func (s *Server) failover(ctx context.Context, p failoverPlan) error {
	r := &s.repl
	start := time.Now()
	s.pause.begin(start.Add(failoverPause), true)
	defer s.pause.end()
	r.primary.SetQuiet(true)
	defer r.primary.SetQuiet(false)

	wait := ctx
	if p.timeout > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	_, end, _ := s.eng.Position()
	t, err := s.awaitTarget(wait, p.to, end, true)
	if err == nil {
		// Writes that were under way when the pause began are in the log now, and no others can come: the target must have
		// these, too.
		s.eng.SetReplica(true)
		_, last, _ := s.eng.Position()
		if last > end+replication.GetackLen {
			end = last
		} // else nothing but our question stands behind end, and who has answered it has it
		t, err = s.awaitTarget(wait, &t, end, false)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		s.eng.SetReplica(false)
		return context.Cause(ctx)
	case !p.force:
		s.eng.SetReplica(false)
		return errors.New("Replica never caught up before timeout")
	default:
		r.log.Info(fmt.Sprintf("Failover to %s:%d time out exceeded, failing over.", p.to.Host, p.to.Port))
		t = *p.to
	}

	r.log.Info(fmt.Sprintf("Failover target is synced, failing over to %s.", t.Addr()))
	r.failover.set(failoverInProgress)
	select {
	case <-r.failover.outcome: // of an earlier one
	default:
	}
	r.change.Lock()
	defer r.change.Unlock()
	s.becomeReplica(t)
	t.Failover = true
	r.replica.Start(t)
	select {
	case err = <-r.failover.outcome:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		if lerr := s.lead(context.WithoutCancel(ctx)); lerr != nil {
			return errors.Join(err, lerr)
		}
		return err
	}
	t.Failover = false
	if err := s.saveRole(&t); err != nil {
		r.log.Error("the new role could not be kept", "error", err)
	}
	r.log.Info("Failover succeeded", "primary", t.Addr(), "elapsed-ms", time.Since(start).Milliseconds())
	return nil
}

// awaitTarget waits until the target, or if none is named any replica, has all up to end. ask: have the replicas say so at once.
func (s *Server) awaitTarget(ctx context.Context, to *replication.Target, end wal.Offset, ask bool) (replication.Target, error) {
	r := &s.repl
	if ask {
		r.primary.Getack(end)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, i := range r.primary.Replicas() {
			if i.State != replication.StateOnline || i.Ack < end || i.IP == "" || i.Port == 0 {
				continue
			}
			if to == nil || i.IP == to.Host && i.Port == to.Port {
				return replication.Target{Host: i.IP, Port: i.Port}, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return replication.Target{}, ctx.Err()
		}
	}
}

// takeOver makes this replica the primary because its primary asks for that.
func (s *Server) takeOver(ctx context.Context) error {
	r := &s.repl
	r.change.Lock()
	defer r.change.Unlock()
	if r.following.Load() == nil {
		return nil
	}
	r.log.Info("Failover request was received for my replication ID, becoming the primary.")
	return s.lead(ctx)
}
