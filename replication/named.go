package replication

import (
	"fmt"

	"github.com/holdfast-db/holdfast/wal"
)

// A replica that gives its name (REPLCONF replica-name) has the log kept for it while it is away, from what it last had on disk
// on (W6). Who keeps that in mind, over restarts, is behind Slots; here is decided which link speaks for a name.

// Slots keeps the log for named replicas. Its calls for one name come one after another.
type Slots interface {
	// Attach says that the replica is there, and stands at off.
	Attach(name string, off wal.Offset) error
	// Move says that it has everything before off on its disk.
	Move(name string, off wal.Offset)
	// Detach says that it is gone.
	Detach(name string)
}

// maxName is the longest name of a replica in bytes.
const maxName = 64

// errName is the reply to a name that cannot be one.
const errName = "ERR replica-name must be 1 to 64 of A-Z a-z 0-9 . _ : -"

// validName tells whether a replica may have this name: it stands in logs, files and replies as it is.
func validName(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == ':', c == '-':
		default:
			return false
		}
	}
	return len(s) >= 1 && len(s) <= maxName
}

// claim makes l the link that speaks for its replica's name, which stands at off. Of two with one name the newest counts: most
// often the other one is its dead predecessor, whose end nobody has noticed yet.
func (p *Primary) claim(l *link, off wal.Offset) {
	if p.o.Slots == nil || l.q.Name == "" {
		return
	}
	p.names.Lock()
	defer p.names.Unlock()
	if old := p.names.links[l.q.Name]; old != nil && old != l && old.addr != l.addr {
		p.log.Warn("two replicas have the same name, the newest counts", "name", l.q.Name, "newest", l.addr, "other", old.addr)
	}
	if p.names.links == nil {
		p.names.links = map[string]*link{}
	}
	p.names.links[l.q.Name] = l
	if err := p.o.Slots.Attach(l.q.Name, off); err != nil {
		p.log.Warn(fmt.Sprintf("The log is not kept for replica %s while it is away", l.addr), "name", l.q.Name, "offset", int64(off), "error", err)
	}
}

// onDisk notes what a named replica has on disk.
func (p *Primary) onDisk(l *link, off wal.Offset) {
	if p.o.Slots == nil || l.q.Name == "" {
		return
	}
	p.names.Lock()
	defer p.names.Unlock()
	if p.names.links[l.q.Name] == l {
		p.o.Slots.Move(l.q.Name, off)
	}
}

// unclaim ends what claim began.
func (p *Primary) unclaim(l *link) {
	if p.o.Slots == nil || l.q.Name == "" {
		return
	}
	p.names.Lock()
	defer p.names.Unlock()
	if p.names.links[l.q.Name] == l {
		delete(p.names.links, l.q.Name)
		p.o.Slots.Detach(l.q.Name)
	}
}
