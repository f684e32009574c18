package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// soakEvent is a thing that may happen. do names whom it struck.
type soakEvent struct {
	name   string
	weight int
	do     func(*soak, context.Context) (string, error)
}

var soakEvents = []soakEvent{
	{"kill -9 of a replica", 15, (*soak).killReplica},
	{"stop of a replica", 6, (*soak).stopReplica},
	{"replica frozen", 8, (*soak).freeze},
	{"link cut", 20, (*soak).cut},
	{"link blocked", 12, (*soak).block},
	{"replica put behind another", 8, (*soak).rewire},
	{"kill -9 of the primary", 10, (*soak).killPrimary},
	{"stop of the primary", 4, (*soak).stopPrimary},
	{"FAILOVER", 6, (*soak).failOver},
	{"promotion after kill -9", 4, (*soak).promote},
}

// ending counts the full sync that a redis-server costs which is ended.
func (s *soak) ending(n *node) {
	if !s.mayLead(n) {
		s.necessary++
	}
}

func (s *soak) killReplica(ctx context.Context) (string, error) {
	n := s.anyReplica()
	s.ending(n)
	return n.name, errors.Join(s.retire(n), n.kill(), s.again(ctx, n))
}

func (s *soak) stopReplica(ctx context.Context) (string, error) {
	n := s.anyReplica()
	s.ending(n)
	return n.name, errors.Join(s.retire(n), n.stop(), s.again(ctx, n))
}

func (s *soak) freeze(ctx context.Context) (string, error) {
	n := s.anyReplica()
	return n.name, errors.Join(n.signal(syscall.SIGSTOP), wait(ctx, s.upTo(3*time.Second)), n.signal(syscall.SIGCONT))
}

func (s *soak) cut(context.Context) (string, error) {
	n := s.anyReplica()
	s.link(n).Cut()
	return n.name, nil
}

func (s *soak) block(ctx context.Context) (string, error) {
	n := s.anyReplica()
	s.link(n).Block()
	err := wait(ctx, s.upTo(3*time.Second))
	s.link(n).Open()
	return n.name, err
}

// rewire has a replica follow any server that does not follow it.
func (s *soak) rewire(ctx context.Context) (string, error) {
	n := s.anyReplica()
	var ups []*node
	for _, u := range s.nodes {
		above := u
		for above != nil && above != n {
			above = s.upstream[above]
		}
		if above == nil && s.mayLead(u) {
			ups = append(ups, u)
		}
	}
	up := ups[s.rng.IntN(len(ups))]
	whom := n.name + " behind " + up.name
	if err := s.follow(n, up); err != nil {
		return whom, err
	}
	_, err := n.awaitLink(ctx, s.run.limit)
	return whom, err
}

func (s *soak) killPrimary(ctx context.Context) (string, error) {
	return s.endPrimary(ctx, s.primary.kill)
}

func (s *soak) stopPrimary(ctx context.Context) (string, error) {
	return s.endPrimary(ctx, s.primary.stop)
}

func (s *soak) endPrimary(ctx context.Context, end func() error) (string, error) {
	n := s.primary
	if err := errors.Join(s.retire(n), end()); err != nil {
		return n.name, err
	}
	return n.name, s.checkLedger(ctx, func() error { return errors.Join(wait(ctx, s.upTo(time.Second)), n.restart(ctx)) })
}

// failOver hands over to a replica that follows the primary at once.
func (s *soak) failOver(ctx context.Context) (string, error) {
	n, old := s.anyHeir(), s.primary
	if err := s.settle(ctx); err != nil {
		return n.name, err
	}
	if s.upstream[n] != old {
		if err := s.follow(n, old); err != nil {
			return n.name, err
		}
	}
	if _, err := n.awaitLink(ctx, s.run.limit); err != nil {
		return n.name, err
	}
	host, port, err := net.SplitHostPort(n.Addr)
	if err != nil {
		return n.name, err
	}
	// The primary lists a replica a moment after that one believes its link to be up.
	if err := until(ctx, s.run.limit, "FAILOVER to be taken", func() (bool, error) {
		_, err := old.do("FAILOVER", "TO", host, port)
		return err == nil, err
	}); err != nil {
		return n.name, err
	}
	if err := old.awaitHandedOver(ctx, s.run.limit); err != nil {
		return n.name, err
	}
	now, err := n.standing()
	if err == nil && now.replica {
		err = fmt.Errorf("%s has handed over, and %s is a %s", old.name, n.name, now)
	}
	if err != nil {
		return n.name, err
	}
	return n.name, s.reign(ctx, n)
}

// reign notes that n is primary now, and has all others follow it.
func (s *soak) reign(ctx context.Context, n *node) error {
	s.primary, s.upstream[n] = n, nil
	for _, o := range s.others(n) {
		if err := s.follow(o, n); err != nil {
			return err
		}
	}
	for _, o := range s.others(n) {
		if _, err := o.awaitLink(ctx, s.run.limit); err != nil {
			return err
		}
	}
	return s.checkLedger(ctx, nil)
}

// settle waits until all replicas have what the primary has logged by now: what was confirmed by a replica that was killed since, and had
// it in memory only, is then on others too.
func (s *soak) settle(ctx context.Context) error {
	for _, n := range s.others(s.primary) {
		if _, err := n.awaitPresent(ctx, s.primary, s.run.limit); err != nil {
			return err
		}
	}
	return nil
}

// promote kills the primary and promotes the replica that has got furthest; the old primary comes back as a replica.
func (s *soak) promote(ctx context.Context) (string, error) {
	old := s.primary
	for _, n := range s.others(old) {
		if s.upstream[n] == old {
			continue
		}
		// One that follows another replica would not notice that the primary is gone.
		if err := s.follow(n, old); err != nil {
			return old.name, err
		}
	}
	if err := s.settle(ctx); err != nil {
		return old.name, err
	}
	if err := errors.Join(s.retire(old), old.kill(), s.ledger.Stop()); err != nil {
		return old.name, err
	}
	// What is still on its way must not arrive after the choice.
	for _, n := range s.others(old) {
		s.link(n).Cut()
	}
	var best *node
	at := map[*node]int64{}
	for _, n := range s.others(old) {
		var err error
		if at[n], err = n.downAt(ctx, s.run.limit); err != nil {
			return old.name, err
		}
		if s.mayLead(n) && (best == nil || at[n] > at[best]) {
			best = n
		}
	}
	whom := old.name + " by " + best.name
	if _, err := best.do("REPLICAOF", "NO", "ONE"); err != nil {
		return whom, err
	}
	if err := old.restart(ctx); err != nil {
		return whom, err
	}
	came, err := old.standing()
	if err != nil {
		return whom, err
	}
	at[old] = came.offset
	for _, offset := range at {
		if offset > at[best] {
			s.necessary++ // it has what the new primary has not, and must forget it
		}
	}
	return whom, s.reign(ctx, best)
}

// downAt waits until a replica has noticed that its link is down and has nothing more to apply, and returns its offset.
func (n *node) downAt(ctx context.Context, limit time.Duration) (offset int64, err error) {
	const calm = 20 // looks in a row that find the same
	same, last := 0, int64(-1)
	err = until(ctx, limit, n.name+" to notice the end of its link", func() (bool, error) {
		info, err := n.info("replication")
		if err != nil {
			return false, err
		}
		if offset, err = infoInt(info, "slave_repl_offset"); err != nil {
			return false, err
		}
		if same++; info["master_link_status"] == "up" || offset != last {
			same, last = 0, offset
		}
		return same >= calm, nil
	})
	return offset, err
}
