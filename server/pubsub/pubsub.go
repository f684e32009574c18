// Package pubsub knows who is subscribed to what, and hands each message to those who are. It is a leaf: it has no network
// and no goroutine, and knows neither sessions nor the wire; it delivers through Receiver.
//
// Everything happens under one lock, so that all receivers see all messages in one order, and a subscription begins and ends
// at one place in it. To a client messages come in the order of the topics: its channel first, then its patterns in the order
// in which they came into being. (Redis promises none between patterns.)
package pubsub

import (
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
)

// Kind is what a subscription is to. Each kind has names of its own.
type Kind uint8

// The kinds: of SUBSCRIBE, of PSUBSCRIBE, of SSUBSCRIBE.
const (
	Channel Kind = iota
	Pattern
	Shard
	kinds = 3
)

// Receiver takes messages for one client.
type Receiver interface {
	// Receive is called under the hub's lock, in the goroutine of whoever publishes: it must neither block nor call the hub.
	// m and all in it are the publisher's again when it returns.
	Receive(m *Message)
}

// Message is what one receiver gets.
type Message struct {
	// From is the client that publishes; nil if it is none of ours. Its own Receive runs in its own goroutine.
	From             *Client
	Channel, Payload []byte
	// After is the offset that must be durable before the message may leave; 0 if it may at once. The hub only carries it.
	After int64

	// Kind and Pattern say by which subscription the message is delivered now. The hub sets them.
	Kind    Kind
	Pattern string // of Kind Pattern only
	// Wire is a place for encodings of the message, one for each version of the protocol: it is emptied (its memory stays)
	// before the first of all receivers that get the same bytes.
	Wire [2][]byte
}

// Client is the hub's view of one connection. Its counts may be read by anybody; all else is the hub's.
type Client struct {
	to     Receiver
	subs   [kinds]map[string]*subscription
	order  [kinds]list.List // of *subscription, in the order in which they were made
	counts [kinds]atomic.Int32
}

// NewClient returns a client without subscriptions whose messages go to r.
func NewClient(r Receiver) *Client { return &Client{to: r} }

// Count returns how many subscriptions of a kind the client has.
func (c *Client) Count(k Kind) int { return int(c.counts[k].Load()) }

// Total returns how many subscriptions the client has.
func (c *Client) Total() int { return c.Count(Channel) + c.Count(Pattern) + c.Count(Shard) }

// topic is a channel, a shard channel or a pattern that somebody is subscribed to.
type topic struct {
	name string
	subs list.List     // of *Client, in the order in which they subscribed
	at   *list.Element // place of a pattern in Hub.patterns
}

// subscription is of one client to one topic.
type subscription struct {
	topic    *topic
	inTopic  *list.Element
	inClient *list.Element
}

// Hub is the registry. It is safe for concurrent use.
type Hub struct {
	match func(pattern, channel []byte) bool
	total atomic.Int64 // subscriptions, so that a message to nobody costs no lock

	mu       sync.Mutex
	topics   [kinds]map[string]*topic
	patterns list.List // of *topic, in the order in which they came into being
}

// NewHub returns an empty hub. match tells whether a pattern matches a channel's name.
func NewHub(match func(pattern, channel []byte) bool) *Hub {
	h := &Hub{match: match}
	for k := range h.topics {
		h.topics[k] = map[string]*topic{}
	}
	return h
}

// Subscribe subscribes c to names, one after the other, and calls each behind each of them, under the lock: what each tells
// the client stands at that place among the messages. before is called first, likewise.
func (h *Hub) Subscribe(c *Client, k Kind, names [][]byte, before func(), each func(name []byte)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before()
	for _, n := range names {
		h.add(c, k, string(n))
		each(n)
	}
}

func (h *Hub) add(c *Client, k Kind, name string) {
	if c.subs[k] == nil {
		c.subs[k] = map[string]*subscription{}
	}
	if c.subs[k][name] != nil {
		return
	}
	t := h.topics[k][name]
	if t == nil {
		t = &topic{name: name}
		h.topics[k][name] = t
		if k == Pattern {
			t.at = h.patterns.PushBack(t)
		}
	}
	s := &subscription{topic: t, inTopic: t.subs.PushBack(c)}
	s.inClient = c.order[k].PushBack(s)
	c.subs[k][name] = s
	c.counts[k].Add(1)
	h.total.Add(1)
}

// Unsubscribe ends subscriptions of c to names, nil meaning all of the kind in the order in which they were made, and calls
// before and each as Subscribe does: each for every name, whether c was subscribed to it or not. Where all are ended and
// there were none, each is not called.
func (h *Hub) Unsubscribe(c *Client, k Kind, names [][]byte, before func(), each func(name []byte)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before()
	if names == nil {
		for c.order[k].Len() > 0 {
			name := c.order[k].Front().Value.(*subscription).topic.name
			h.remove(c, k, name)
			each([]byte(name))
		}
		return
	}
	for _, n := range names {
		h.remove(c, k, string(n))
		each(n)
	}
}

func (h *Hub) remove(c *Client, k Kind, name string) {
	s := c.subs[k][name]
	if s == nil {
		return
	}
	delete(c.subs[k], name)
	c.order[k].Remove(s.inClient)
	c.counts[k].Add(-1)
	h.total.Add(-1)
	t := s.topic
	t.subs.Remove(s.inTopic)
	if t.subs.Len() > 0 {
		return
	}
	delete(h.topics[k], name)
	if k == Pattern {
		h.patterns.Remove(t.at)
	}
}

// Leave ends all subscriptions of c, of which nothing is told, after before.
func (h *Hub) Leave(c *Client, before func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before()
	for k := range Kind(kinds) {
		for c.order[k].Len() > 0 {
			h.remove(c, k, c.order[k].Front().Value.(*subscription).topic.name)
		}
	}
}

// Still calls fn while no message is delivered.
func (h *Hub) Still(fn func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fn()
}

// Publish hands m to all that are subscribed to its channel, and to all patterns that match it; of a shard channel there are
// no patterns. It returns how many subscriptions that were: a client can have several.
func (h *Hub) Publish(m *Message, shard bool) (receivers int) {
	if h.total.Load() == 0 {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	k := Channel
	if shard {
		k = Shard
	}
	if t := h.topics[k][string(m.Channel)]; t != nil {
		receivers += t.deliver(m, k)
	}
	if shard {
		return receivers
	}
	for e := h.patterns.Front(); e != nil; e = e.Next() {
		t := e.Value.(*topic)
		if h.match([]byte(t.name), m.Channel) {
			receivers += t.deliver(m, Pattern)
		}
	}
	return receivers
}

func (t *topic) deliver(m *Message, k Kind) int {
	m.Kind, m.Pattern = k, ""
	if k == Pattern {
		m.Pattern = t.name
	}
	for i := range m.Wire {
		m.Wire[i] = m.Wire[i][:0]
	}
	for e := t.subs.Front(); e != nil; e = e.Next() {
		e.Value.(*Client).to.Receive(m)
	}
	return t.subs.Len()
}

// Names returns the channels or shard channels that somebody is subscribed to and that match pattern, in the order of their
// bytes; a nil pattern matches all.
func (h *Hub) Names(k Kind, pattern []byte) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []string{}
	for name := range h.topics[k] {
		if pattern == nil || h.match(pattern, []byte(name)) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Subscribers returns how many clients are subscribed to each of names.
func (h *Hub) Subscribers(k Kind, names [][]byte) []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]int, len(names))
	for i, n := range names {
		if t := h.topics[k][string(n)]; t != nil {
			out[i] = t.subs.Len()
		}
	}
	return out
}

// Topics returns how many names of a kind somebody is subscribed to.
func (h *Hub) Topics(k Kind) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.topics[k])
}
