package bench

import (
	"context"
	"time"
)

// group is a fleet of which one server is primary and all others follow it, at once or through each other.
type group struct {
	*fleet
	primary *node
	ledger  *Ledger
	counted map[*node]syncs // what each had served in its present life when last looked at
	retired syncs           // what ended lives had served and nobody has taken yet
}

func newGroup(f *fleet) *group { return &group{fleet: f, counted: map[*node]syncs{}} }

// retire notes what a server has served, right before its process is ended: the next life counts from 0.
func (g *group) retire(n *node) error {
	now, err := n.syncs()
	if err != nil {
		return err
	}
	g.retired = g.retired.plus(now.minus(g.counted[n]))
	g.counted[n] = syncs{}
	return nil
}

// served is what all servers have served since takeSyncs was called last, over all lives.
func (g *group) served() (syncs, error) {
	sum := g.retired
	for _, n := range g.nodes {
		now, err := n.syncs()
		if err != nil {
			return sum, err
		}
		sum = sum.plus(now.minus(g.counted[n]))
	}
	return sum, nil
}

// takeSyncs is served, and begins to count anew.
func (g *group) takeSyncs() (syncs, error) {
	sum, err := g.served()
	if err != nil {
		return sum, err
	}
	g.retired = syncs{}
	for _, n := range g.nodes {
		if g.counted[n], err = n.syncs(); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// others are the servers that are not n.
func (g *group) others(n *node) (o []*node) {
	for _, x := range g.nodes {
		if x != n {
			o = append(o, x)
		}
	}
	return o
}

// awaitSame waits until all have applied everything, and compares their data. REQUIRES: nobody writes.
func (g *group) awaitSame(ctx context.Context, limit time.Duration) error {
	if err := awaitEqual(ctx, g.primary, limit, g.others(g.primary)...); err != nil {
		return err
	}
	return sameData(ctx, g.nodes...)
}
