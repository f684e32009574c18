package server

import "runtime"

// Under appendfsync always most of what an event loop serves may wait for the log's sync: then nobody loses if the loop waits
// as well, instead of handing the bytes over to another thread and being woken by it. A client that reads would lose.
const (
	// companyPolls is how often a loop looks for further input before it waits for a sync: each look finds what clients
	// have sent while the last was being executed.
	companyPolls = 3
	// companyShare is the share of those served, in eighths, that has to wait for syncs, so that the loop may wait, too.
	companyShare = 7
	// companyMemory is of how many served connections the share is taken, halved again and again.
	companyMemory = 512
	// companyProcs is the number of processors up to which waiting itself is sooner than waking a thread that is idle. Not
	// measured with more: there the hand-over stays.
	companyProcs = 2
)

// company counts who of those that a loop serves waits for syncs.
type company struct{ served, waited int }

func (k *company) serve() {
	if k.served++; k.served >= companyMemory {
		k.served, k.waited = k.served/2, k.waited/2
	}
}

func (k *company) wait() { k.waited++ }

// alone tells whether a loop that waits for a sync keeps hardly anybody waiting who would not wait anyway.
func (k *company) alone() bool {
	return k.waited*8 >= k.served*companyShare && k.waited > 0 && runtime.NumCPU() <= companyProcs
}
