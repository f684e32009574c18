package server

import (
	"fmt"
	"sort"
	"strings"
	"sync/atomic"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/server/reply"
)

// Client-side caching: CLIENT TRACKING. A client that has it on is told which of the keys that it may have cached change.
//
// In the default mode the server remembers who has read a key, and tells each of them once when it changes: a client that
// reads it again is remembered again. In broadcasting mode nothing is remembered; a client is told of every change of a key
// with one of its prefixes, all changes of one hold of the executor lock in one message.
//
// Keys are known by name only, whatever database they are in, as in Redis. A client hears of what itself has changed after the
// reply to that command; others at once. They may hear of a change before it is durable: all that follows from that is another
// read, whose reply waits (A1).

// trackMode is what a client has asked for.
type trackMode struct {
	on, bcast, optIn, optOut, noLoop bool
	redirect                         uint64 // id of the client that is told instead; 0: itself
	prefixes                         []string
}

// tracker remembers. All of it but max and the counts is under the executor lock.
type tracker struct {
	srv     *Server
	max     atomic.Int64          // most keys remembered; 0: any number
	clients map[uint64]*session   // those with tracking on, by their id
	keys    map[string][]uint64   // who may have cached a key; clients that are gone or track no more are passed over
	items   int64                 // sum of the lengths of keys' lists
	bcast   map[string]*broadcast // by prefix
	// changedPrefixes are those of bcast that have changes.
	changedPrefixes []string
	flushed         bool // all keys are to be invalidated when the command is complete
}

// broadcast is a prefix, who listens to it, and the keys that have changed in this hold.
type broadcast struct {
	clients map[uint64]*session
	changed map[string]*engine.Client // by whom: nil, or several, if it is nobody's own change
}

func newTracker(srv *Server) *tracker {
	return &tracker{srv: srv, clients: map[uint64]*session{}, keys: map[string][]uint64{}, bcast: map[string]*broadcast{}}
}

// enable turns tracking on for s, or changes its mode; prefixes are added to those it has. REQUIRES: the lock.
func (t *tracker) enable(s *session, mode trackMode) {
	mode.on = true
	id := s.conn.ID
	if len(t.clients) == 0 {
		t.srv.eng.Observe(t)
	}
	t.clients[id] = s
	mode.prefixes = s.track.prefixes
	s.track = mode
	s.cl.Tracking = !mode.bcast
	s.trackRedirect.Store(int64(mode.redirect))
	s.trackBroken.Store(false)
	s.trackBcast.Store(mode.bcast)
}

// listen subscribes s to a prefix. REQUIRES: the lock.
func (t *tracker) listen(s *session, prefix string) {
	b := t.bcast[prefix]
	if b == nil {
		b = &broadcast{clients: map[uint64]*session{}, changed: map[string]*engine.Client{}}
		t.bcast[prefix] = b
	}
	if b.clients[s.conn.ID] != nil {
		return
	}
	b.clients[s.conn.ID] = s
	s.track.prefixes = append(s.track.prefixes, prefix)
	sort.Strings(s.track.prefixes)
}

// disable turns tracking off. REQUIRES: the lock.
func (t *tracker) disable(s *session) {
	if !s.track.on {
		return
	}
	id := s.conn.ID
	for _, p := range s.track.prefixes {
		b := t.bcast[p]
		if delete(b.clients, id); len(b.clients) == 0 {
			delete(t.bcast, p)
		}
	}
	s.track = trackMode{}
	s.cl.Tracking, s.caching = false, false
	s.trackRedirect.Store(-1)
	s.trackBroken.Store(false)
	s.trackBcast.Store(false)
	if delete(t.clients, id); len(t.clients) == 0 {
		t.keys, t.items = map[string][]uint64{}, 0
		t.srv.eng.Observe(nil)
	}
}

// Read implements engine.KeyObserver.
func (t *tracker) Read(cl *engine.Client, spec *command.Spec, args [][]byte) {
	s, ok := cl.Owner.(*session)
	if !ok || s.track.optIn && !s.caching || s.track.optOut && s.caching {
		return
	}
	spec.EachKey(args, func(i int) { t.remember(string(args[i]), s.conn.ID) })
	for limit := t.max.Load(); limit > 0 && int64(len(t.keys)) > limit; {
		for key := range t.keys { // whichever comes first: Go starts anywhere
			t.invalidate(nil, key)
			break
		}
	}
}

func (t *tracker) remember(key string, id uint64) {
	list := t.keys[key]
	for _, have := range list {
		if have == id {
			return
		}
	}
	t.keys[key] = append(list, id)
	t.items++
}

// Changed implements engine.KeyObserver.
func (t *tracker) Changed(by *engine.Client, key string) {
	t.invalidate(by, key)
	for prefix, b := range t.bcast {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if len(b.changed) == 0 {
			t.changedPrefixes = append(t.changedPrefixes, prefix)
		}
		if was, ok := b.changed[key]; ok && was != by {
			b.changed[key] = nil
		} else {
			b.changed[key] = by
		}
	}
}

// invalidate tells all who may have cached key, and forgets that they have.
func (t *tracker) invalidate(by *engine.Client, key string) {
	list, ok := t.keys[key]
	if !ok {
		return
	}
	delete(t.keys, key)
	t.items -= int64(len(list))
	for _, id := range list {
		s := t.clients[id]
		if s == nil || s.track.bcast || s.track.noLoop && s.cl == by {
			continue
		}
		t.tell(s, by, func(w *reply.Writer) {
			w.Array(1)
			w.BulkString(key)
		})
	}
}

// Flushed implements engine.KeyObserver.
func (t *tracker) Flushed() { t.flushed = true }

// Executed implements engine.KeyObserver.
func (t *tracker) Executed() {
	if !t.flushed {
		return
	}
	t.flushed = false
	t.keys, t.items = map[string][]uint64{}, 0
	by := t.srv.eng.Executing()
	for _, s := range t.clients {
		t.tell(s, by, (*reply.Writer).Null)
	}
}

// Released implements engine.KeyObserver.
func (t *tracker) Released() {
	t.Executed()
	prefixes := t.changedPrefixes
	t.changedPrefixes = nil
	sort.Strings(prefixes)
	for _, prefix := range prefixes {
		b := t.bcast[prefix]
		if b == nil {
			continue // nobody listens any more
		}
		all := make([]string, 0, len(b.changed))
		for key := range b.changed {
			all = append(all, key)
		}
		sort.Strings(all)
		for _, s := range b.clients {
			keys := all
			if s.track.noLoop {
				keys = nil
				for _, key := range all {
					if b.changed[key] != s.cl {
						keys = append(keys, key)
					}
				}
			}
			if len(keys) == 0 {
				continue
			}
			t.tell(s, nil, func(w *reply.Writer) {
				w.Array(len(keys))
				for _, key := range keys {
					w.BulkString(key)
				}
			})
		}
		clear(b.changed)
	}
}

// invalidateChannel is where a client that speaks RESP2 has to listen for what is redirected to it.
const invalidateChannel = "__redis__:invalidate"

// tell sends an invalidation for s, by being the client whose command is under way: it gets its own behind the reply. Clients
// that speak RESP2 get none, unless one that subscribes to a channel gets those of another.
func (t *tracker) tell(s *session, by *engine.Client, what func(*reply.Writer)) {
	to := s
	if id := s.track.redirect; id != 0 {
		if to = t.srv.clients.get(id); to == nil {
			s.trackBroken.Store(true)
			if s.proto.Load() == 3 {
				var w reply.Writer
				w.Reset(3)
				w.Push(2)
				w.BulkString("tracking-redir-broken")
				w.Int(int64(id))
				s.invalidate(w.Bytes(), s.cl == by)
			}
			return
		}
	}
	var w reply.Writer
	switch {
	case to.proto.Load() == 3:
		w.Reset(3)
		w.Push(2)
		w.BulkString("invalidate")
	case to != s && to.conn.Class() == ClassPubSub:
		w.Reset(2)
		w.Push(3)
		w.BulkString("message")
		w.BulkString(invalidateChannel)
	default:
		return
	}
	what(&w)
	to.invalidate(w.Bytes(), to.cl == by)
}

// invalidate sends a message to a client: own says that it is the one whose command is under way.
func (s *session) invalidate(b []byte, own bool) {
	if own {
		s.pushes = append(s.pushes, b...)
		return
	}
	s.conn.WriteAsync(b)
}

// --- the commands

func (s *session) cmdClientTracking(args [][]byte) {
	w := s.conn.Out()
	var mode trackMode
	var prefixes []string
	for i := 3; i < len(args); i++ {
		more := i+1 < len(args)
		switch {
		case isWord(args[i], "redirect") && more:
			i++
			if mode.redirect != 0 {
				w.Error("ERR A client can only redirect to a single other client")
				return
			}
			id, ok := command.ParseInt(args[i])
			if !ok {
				w.Error(reply.NotInt)
				return
			}
			if s.srv.clients.get(uint64(id)) == nil {
				w.Error("ERR The client ID you want redirect to does not exist")
				return
			}
			mode.redirect = uint64(id)
		case isWord(args[i], "bcast"):
			mode.bcast = true
		case isWord(args[i], "optin"):
			mode.optIn = true
		case isWord(args[i], "optout"):
			mode.optOut = true
		case isWord(args[i], "noloop"):
			mode.noLoop = true
		case isWord(args[i], "prefix") && more:
			i++
			prefixes = append(prefixes, string(args[i]))
		default:
			w.Error(reply.Syntax)
			return
		}
	}
	var refusal string
	switch {
	case isWord(args[2], "on"):
		s.withLock(func() { refusal = s.trackOn(mode, prefixes) })
	case isWord(args[2], "off"):
		s.withLock(func() { s.srv.tracker.disable(s) })
	default:
		refusal = reply.Syntax
	}
	if refusal != "" {
		w.Error(refusal)
		return
	}
	w.OK()
}

// trackOn turns tracking on unless the mode asked for does not go together with itself or with the present one; then it
// returns the error. REQUIRES: the lock.
func (s *session) trackOn(mode trackMode, prefixes []string) (refusal string) {
	now := &s.track
	switch {
	case !mode.bcast && len(prefixes) > 0:
		return "ERR PREFIX option requires BCAST mode to be enabled"
	case now.on && now.bcast != mode.bcast:
		return "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode."
	case mode.bcast && (mode.optIn || mode.optOut):
		return "ERR OPTIN and OPTOUT are not compatible with BCAST"
	case mode.optIn && mode.optOut:
		return "ERR You can't specify both OPTIN mode and OPTOUT mode"
	case mode.optIn && now.optOut || mode.optOut && now.optIn:
		return "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode."
	}
	overlap := func(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }
	for i, p := range prefixes {
		for _, have := range now.prefixes {
			if overlap(p, have) {
				return oneLine(fmt.Sprintf("ERR Prefix '%s' overlaps with an existing prefix '%s'. Prefixes for a single client must not overlap.", p, have))
			}
		}
		for _, other := range prefixes[i+1:] {
			if overlap(p, other) {
				return oneLine(fmt.Sprintf("ERR Prefix '%s' overlaps with another provided prefix '%s'. Prefixes for a single client must not overlap.", p, other))
			}
		}
	}
	s.srv.tracker.enable(s, mode)
	if mode.bcast && len(prefixes) == 0 {
		prefixes = []string{""}
	}
	for _, p := range prefixes {
		s.srv.tracker.listen(s, p)
	}
	return ""
}

func (s *session) cmdClientCaching(args [][]byte) {
	w := s.conn.Out()
	switch {
	case !s.track.on:
		w.Error("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
	case isWord(args[2], "yes") && !s.track.optIn:
		w.Error("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
	case isWord(args[2], "no") && !s.track.optOut:
		w.Error("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
	case isWord(args[2], "yes"), isWord(args[2], "no"):
		s.caching = true
		w.OK()
	default:
		w.Error(reply.Syntax)
	}
}

// endCaching ends what CLIENT CACHING has said: it holds for the next command, or for the next transaction.
func (s *session) endCaching(spec *command.Spec) {
	if s.caching && !s.multi.active && (spec == nil || !strings.HasPrefix(spec.FullName, "client|")) {
		s.caching = false
	}
}

func (s *session) cmdClientGetRedir(_ [][]byte) {
	if !s.track.on {
		s.conn.Out().Int(-1)
		return
	}
	s.conn.Out().Int(int64(s.track.redirect))
}

func (s *session) cmdClientTrackingInfo(_ [][]byte) {
	w := s.conn.Out()
	m := &s.track
	flags := []string{"on"}
	if !m.on {
		flags[0] = "off"
	}
	for _, f := range []struct {
		set  bool
		name string
	}{{m.bcast, "bcast"}, {m.optIn, "optin"}, {m.optIn && s.caching, "caching-yes"}, {m.optOut, "optout"},
		{m.optOut && s.caching, "caching-no"}, {m.noLoop, "noloop"}, {s.trackBroken.Load(), "broken_redirect"}} {
		if f.set {
			flags = append(flags, f.name)
		}
	}
	w.Map(3)
	w.BulkString("flags")
	w.Set(len(flags))
	for _, f := range flags {
		w.BulkString(f)
	}
	w.BulkString("redirect")
	s.cmdClientGetRedir(nil)
	w.BulkString("prefixes")
	w.Array(len(m.prefixes))
	for _, p := range m.prefixes {
		w.BulkString(p)
	}
}
