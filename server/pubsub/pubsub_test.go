package pubsub

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// inbox keeps what it is given.
type inbox struct{ got []string }

func (b *inbox) Receive(m *Message) { b.got = append(b.got, describe(m)) }

func describe(m *Message) string {
	return fmt.Sprintf("%d %s %s %s", m.Kind, m.Pattern, m.Channel, m.Payload)
}

func (b *inbox) take() []string {
	got := b.got
	b.got = nil
	return got
}

func words(names ...string) [][]byte {
	out := make([][]byte, len(names))
	for i, n := range names {
		out[i] = []byte(n)
	}
	return out
}

func none() {}

func matchPath(pattern, name []byte) bool {
	ok, err := path.Match(string(pattern), string(name))
	return ok && err == nil
}

func subscribe(h *Hub, c *Client, k Kind, names ...string) {
	h.Subscribe(c, k, words(names...), none, func([]byte) {})
}

func publish(h *Hub, channel, payload string, shard bool) int {
	return h.Publish(&Message{Channel: []byte(channel), Payload: []byte(payload)}, shard)
}

func TestMessages(t *testing.T) {
	h := NewHub(matchPath)
	var a, b inbox
	ca, cb := NewClient(&a), NewClient(&b)
	require.Zero(t, publish(h, "x", "1", false))
	subscribe(h, ca, Channel, "x", "y", "x")
	subscribe(h, ca, Pattern, "?", "[xy]")
	subscribe(h, cb, Channel, "x")
	subscribe(h, cb, Shard, "x")
	require.Equal(t, 4, publish(h, "x", "2", false))
	require.Equal(t, 1, publish(h, "x", "3", true))
	require.Equal(t, 3, publish(h, "y", "4", false))
	require.Zero(t, publish(h, "none", "5", false))
	require.Zero(t, publish(h, "y", "6", true))
	require.Equal(t, []string{"0  x 2", "1 ? x 2", "1 [xy] x 2", "0  y 4", "1 ? y 4", "1 [xy] y 4"}, a.take())
	require.Equal(t, []string{"0  x 2", "2  x 3"}, b.take())
	require.Equal(t, []int{2, 2, 0, 4}, []int{ca.Count(Channel), ca.Count(Pattern), ca.Count(Shard), ca.Total()})

	require.Equal(t, []string{"x", "y"}, h.Names(Channel, nil))
	require.Equal(t, []string{"y"}, h.Names(Channel, []byte("[y-z]")))
	require.Equal(t, []string{"x"}, h.Names(Shard, nil))
	require.Equal(t, []int{2, 1, 0}, h.Subscribers(Channel, words("x", "y", "z")))
	require.Equal(t, []int{2, 2, 1}, []int{h.Topics(Channel), h.Topics(Pattern), h.Topics(Shard)})

	// Each name is told, whether there was a subscription or not; all of them in the order in which they were made.
	var told []string
	tell := func(name []byte) { told = append(told, string(name)) }
	h.Unsubscribe(ca, Channel, words("z", "x"), none, tell)
	h.Unsubscribe(ca, Pattern, nil, none, tell)
	h.Unsubscribe(ca, Pattern, nil, none, tell)
	require.Equal(t, []string{"z", "x", "?", "[xy]"}, told)
	require.Equal(t, 1, publish(h, "x", "7", false))
	h.Leave(cb, none)
	h.Leave(ca, none)
	h.Leave(ca, none)
	require.Zero(t, ca.Total()+cb.Total())
	require.Zero(t, h.total.Load())
	for k := range Kind(kinds) {
		require.Zero(t, h.Topics(k), "a topic without subscribers stays")
	}
	require.Zero(t, h.patterns.Len())
}

// encoder uses Message.Wire as a session does.
type encoder struct {
	made *int
	got  []string
}

func (e *encoder) Receive(m *Message) {
	if len(m.Wire[0]) == 0 {
		*e.made++
		m.Wire[0] = append(m.Wire[0], describe(m)...)
	}
	e.got = append(e.got, string(m.Wire[0]))
}

// An encoding serves all subscribers of one topic, and never those of another.
func TestWire(t *testing.T) {
	h := NewHub(matchPath)
	made := 0
	all := make([]*encoder, 5)
	for i := range all {
		all[i] = &encoder{made: &made}
		c := NewClient(all[i])
		subscribe(h, c, Channel, "x")
		subscribe(h, c, Pattern, "*", "?")
	}
	require.Equal(t, 15, publish(h, "x", "1", false))
	require.Equal(t, 3, made)
	for _, e := range all {
		require.Equal(t, []string{"0  x 1", "1 * x 1", "1 ? x 1"}, e.got)
	}
}

func seed(t *testing.T) uint64 {
	s := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("HOLDFAST_SEED"), 10, 64); err == nil {
		s = n
	}
	t.Log("seed", s)
	return s
}

// The hub does what a list of subscriptions does that is walked from its start each time.
func TestHubAgainstModel(t *testing.T) {
	type sub struct {
		who  int
		k    Kind
		name string
	}
	r := rand.New(rand.NewPCG(seed(t), 3))
	h := NewHub(matchPath)
	const clients = 5
	boxes := make([]inbox, clients)
	cs := make([]*Client, clients)
	for i := range cs {
		cs[i] = NewClient(&boxes[i])
	}
	var model []sub
	names := [kinds][]string{{"a", "b", "ab", ""}, {"*", "a*", "?", "[ab]", "ab"}, {"a", "b"}}
	pick := func(k Kind) string { return names[k][r.IntN(len(names[k]))] }
	for step := range 20_000 {
		who, k := r.IntN(clients), Kind(r.IntN(kinds))
		switch r.IntN(10) {
		case 0, 1, 2:
			s := sub{who, k, pick(k)}
			subscribe(h, cs[who], k, s.name)
			if !slices.Contains(model, s) {
				model = append(model, s)
			}
		case 3, 4:
			s := sub{who, k, pick(k)}
			h.Unsubscribe(cs[who], k, words(s.name), none, func([]byte) {})
			model = slices.DeleteFunc(model, func(m sub) bool { return m == s })
		case 5:
			var want, got []string
			model = slices.DeleteFunc(model, func(m sub) bool {
				if m.who == who && m.k == k {
					want = append(want, m.name)
				}
				return m.who == who && m.k == k
			})
			h.Unsubscribe(cs[who], k, nil, none, func(name []byte) { got = append(got, string(name)) })
			require.Equal(t, want, got)
		case 6:
			h.Leave(cs[who], none)
			model = slices.DeleteFunc(model, func(m sub) bool { return m.who == who })
		default:
			shard := k == Shard
			channel := names[0][r.IntN(3)]
			payload := strconv.Itoa(step)
			want := make([][]string, clients)
			n := 0
			for _, s := range model {
				switch {
				case shard != (s.k == Shard), s.k != Pattern && s.name != channel, s.k == Pattern && !matchPath([]byte(s.name), []byte(channel)):
					continue
				}
				p := ""
				if s.k == Pattern {
					p = s.name
				}
				n++
				want[s.who] = append(want[s.who], fmt.Sprintf("%d %s %s %s", s.k, p, channel, payload))
			}
			require.Equal(t, n, publish(h, channel, payload, shard))
			for i := range boxes {
				got := boxes[i].take()
				// Among patterns the order is that of their first subscriptions by anybody, which the model does not know.
				slices.Sort(want[i])
				if len(got) > 1 {
					require.True(t, slices.IsSortedFunc(got, func(a, b string) int { return int(a[0]) - int(b[0]) }), "a pattern before a channel")
				}
				slices.Sort(got)
				require.Equal(t, want[i], got)
			}
		}
		for i := range cs {
			n := 0
			for _, s := range model {
				if s.who == i {
					n++
				}
			}
			require.Equal(t, n, cs[i].Total())
		}
	}
}

// recorder notes messages and what was told of subscriptions, as one sequence.
type recorder struct{ events []string }

func (r *recorder) Receive(m *Message) { r.events = append(r.events, string(m.Payload)) }

// All receivers see the messages of many publishers in one order, each publisher's in its own, and none outside of their
// subscription.
func TestOrder(t *testing.T) {
	h := NewHub(matchPath)
	const publishers, each = 4, 500
	stay := [2]recorder{}
	for i := range stay {
		subscribe(h, NewClient(&stay[i]), Channel, "c")
	}
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				publish(h, "c", fmt.Sprint(p, " ", i), false)
			}
		})
	}
	come := recorder{}
	wg.Go(func() {
		c := NewClient(&come)
		note := func(what string) func([]byte) { return func([]byte) { come.events = append(come.events, what) } }
		for range each {
			h.Subscribe(c, Channel, words("c"), none, note("begin"))
			h.Unsubscribe(c, Channel, nil, none, note("end"))
		}
	})
	wg.Wait()
	require.Len(t, stay[0].events, publishers*each)
	require.Equal(t, stay[0].events, stay[1].events)
	next := [publishers]int{}
	for _, e := range stay[0].events {
		var p, i int
		_, err := fmt.Sscan(e, &p, &i)
		require.NoError(t, err)
		require.Equal(t, next[p], i)
		next[p]++
	}
	open := false
	at := 0
	for _, e := range come.events {
		switch e {
		case "begin", "end":
			require.Equal(t, e == "end", open)
			open = !open
		default:
			require.True(t, open, "a message outside of the subscription")
			i := slices.Index(stay[0].events[at:], e)
			require.GreaterOrEqual(t, i, 0)
			at += i + 1
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 1, 100} {
		b.Run(fmt.Sprintf("subscribers=%d", n), func(b *testing.B) {
			h := NewHub(bytes.Equal)
			for range n {
				subscribe(h, NewClient(nothing{}), Channel, "c")
			}
			m := &Message{Channel: []byte("c"), Payload: make([]byte, 100)}
			for b.Loop() {
				h.Publish(m, false)
			}
		})
	}
}

type nothing struct{}

func (nothing) Receive(*Message) {}
