package server

import (
	"fmt"
	"net"
	"sort"
	"sync"
	"time"
)

// linkRegistry knows the connections that have become replicas' links: CLIENT LIST and CLIENT KILL see them still.
type linkRegistry struct {
	mu    sync.Mutex
	links map[*linkClient]struct{}
}

// linkClient is a replica's connection after PSYNC.
type linkClient struct {
	id          uint64
	addr, laddr string
	fd          int
	name        string
	created     time.Time
	conn        net.Conn
}

func (r *linkRegistry) add(s *session, name string, conn net.Conn) *linkClient {
	l := &linkClient{id: s.conn.ID, addr: s.conn.RemoteAddr(), laddr: s.conn.LocalAddr(), fd: s.conn.FD(), name: name,
		created: s.conn.Created(), conn: conn}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.links == nil {
		r.links = map[*linkClient]struct{}{}
	}
	r.links[l] = struct{}{}
	return l
}

func (r *linkRegistry) remove(l *linkClient) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.links, l)
}

// all returns the links in the order of their ids.
func (r *linkRegistry) all() []*linkClient {
	r.mu.Lock()
	out := make([]*linkClient, 0, len(r.links))
	for l := range r.links {
		out = append(out, l)
	}
	r.mu.Unlock()
	sort.Slice(out, func(i, j int) bool { return out[i].id < out[j].id })
	return out
}

// describe is the line of CLIENT LIST. A link has no buffers that could grow (M1).
func (l *linkClient) describe(now time.Time) string {
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=0 flags=S db=0 sub=0 psub=0 ssub=0 multi=-1 "+
		"qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=psync "+
		"user=default redir=-1 resp=2 lib-name= lib-ver=", l.id, l.addr, l.laddr, l.fd, l.name, int64(now.Sub(l.created).Seconds()))
}

// kill cuts the link; the replica comes back and resumes.
func (l *linkClient) kill() { _ = l.conn.Close() }
