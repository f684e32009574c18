package bench

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// op is what is all there after a crash or not at all: one command, or several inside MULTI and EXEC.
type op struct {
	commands [][]string
	shared   bool // it is about the shared counter, whose replies no single client can foretell
}

func (o op) appendTo(dst []byte) []byte {
	if len(o.commands) == 1 {
		return AppendCommand(dst, o.commands[0]...)
	}
	dst = AppendCommand(dst, "MULTI")
	for _, c := range o.commands {
		dst = AppendCommand(dst, c...)
	}
	return AppendCommand(dst, "EXEC")
}

// applyTo executes the op on a model and returns its reply; a transaction's as EXEC's.
func (o op) applyTo(m model) string {
	if o.shared {
		return ""
	}
	if len(o.commands) == 1 {
		return m.do(o.commands[0])
	}
	replies := make([]string, len(o.commands))
	for i, c := range o.commands {
		replies[i] = m.do(c)
	}
	return "[" + strings.Join(replies, " ") + "]"
}

// sharedKey is counted up by all clients and read by all: what a reply has shown of it must survive (A1).
const sharedKey = "n:shared"

// sharedCounter is what is known of sharedKey.
type sharedCounter struct {
	sent atomic.Int64 // increments sent; the value cannot be larger
}

// victim is a client of a server that will be killed. Its ops since the last crash are in the order in which the server must
// have executed them, so what is found after the crash must be the model after the acknowledged ops and a prefix of those
// that were sent and not answered.
type victim struct {
	id     int
	rng    *rand.Rand
	seq    int
	shared *sharedCounter

	acked   model // after all acknowledged ops
	pending []op  // sent, not acknowledged
	keys    []string
	ackedN  int64 // acknowledged ops in all cycles

	// What may be lost though it was acknowledged: recent is what came within mayLose of now, settled the model before it. A
	// value of the shared counter that was shown to this client is in settledShown once it must not be forgotten.
	mayLose      time.Duration
	settled      model
	recent       []ackedOp
	settledShown int64
	lostN        int64 // ops of recent that were lost, in all cycles
}

// ackedOp is an op that was acknowledged, the value of the shared counter that its reply showed, and when.
type ackedOp struct {
	op    op
	shown int64
	at    time.Time
}

// settle takes what was acknowledged longer than mayLose before now for safe.
func (v *victim) settle(now time.Time) {
	n := 0
	for ; n < len(v.recent) && now.Sub(v.recent[n].at) >= v.mayLose; n++ {
		v.recent[n].op.applyTo(v.settled)
		v.settledShown = max(v.settledShown, v.recent[n].shown)
	}
	v.recent = v.recent[n:]
}

func newVictim(id int, seed uint64, shared *sharedCounter) *victim {
	v := &victim{id: id, rng: rand.New(rand.NewPCG(seed, uint64(id))), shared: shared, acked: model{}, settled: model{}}
	for _, family := range victimFamilies {
		for i := range family.keys {
			v.keys = append(v.keys, fmt.Sprintf("%s:%d:%d", family.prefix, id, i))
		}
	}
	return v
}

// victimFamilies are the keys of a client. Few, so that what a checkpoint has written is overwritten, deleted and written
// again; the big hash and the big sorted set grow past the size from which their elements have rows of their own.
var victimFamilies = []struct {
	prefix string
	keys   int
	fields int // of a collection
	weight int
}{
	{"s", 60, 0, 30}, {"n", 5, 0, 10}, {"l", 4, 0, 15}, {"h", 4, 40, 10}, {"hbig", 1, 3000, 10},
	{"t", 4, 60, 10}, {"z", 4, 60, 10}, {"zbig", 1, 3000, 10},
}

// newOp makes the next op.
func (v *victim) newOp() op {
	v.seq++
	switch v.rng.IntN(20) {
	case 0:
		v.shared.sent.Add(1)
		return op{commands: [][]string{{"INCRBY", sharedKey, "1"}}, shared: true}
	case 1:
		return op{commands: [][]string{{"GET", sharedKey}}, shared: true}
	case 2, 3:
		o := op{}
		for range 2 + v.rng.IntN(4) {
			o.commands = append(o.commands, v.command())
		}
		return o
	}
	return op{commands: [][]string{v.command()}}
}

func (v *victim) command() []string {
	total := 0
	for _, f := range victimFamilies {
		total += f.weight
	}
	at := v.rng.IntN(total)
	i := 0
	for at >= victimFamilies[i].weight {
		at -= victimFamilies[i].weight
		i++
	}
	f := victimFamilies[i]
	key := fmt.Sprintf("%s:%d:%d", f.prefix, v.id, v.rng.IntN(f.keys))
	if v.rng.IntN(60) == 0 && (f.fields < 1000 || v.rng.IntN(50) == 0) {
		return []string{"DEL", key}
	}
	field := ""
	if f.fields > 0 {
		field = "f" + strconv.Itoa(v.rng.IntN(f.fields))
	}
	pick := v.rng.IntN(10)
	switch f.prefix[0] {
	case 's':
		switch {
		case pick < 7:
			return []string{"SET", key, v.value()}
		case pick < 8:
			return []string{"APPEND", key, "+" + strconv.Itoa(v.seq)}
		}
		return []string{"GET", key}
	case 'n':
		return []string{"INCRBY", key, strconv.Itoa(1 + v.rng.IntN(9))}
	case 'l':
		return [][]string{{"LPUSH", key, v.value()}, {"RPUSH", key, v.value()}, {"LPOP", key}, {"RPOP", key}}[v.rng.IntN(4)]
	case 'h':
		if pick < 8 {
			return []string{"HSET", key, field, strconv.Itoa(v.seq)}
		}
		return []string{"HDEL", key, field}
	case 't':
		if pick < 6 {
			return []string{"SADD", key, field}
		}
		return []string{"SREM", key, field}
	default:
		if pick < 7 {
			return []string{"ZADD", key, strconv.Itoa(v.rng.IntN(1000)), field}
		}
		return []string{"ZREM", key, field}
	}
}

// value is new for each op, without spaces, of 1 to some 2000 bytes.
func (v *victim) value() string {
	return fmt.Sprintf("v%d.%d%s", v.id, v.seq, strings.Repeat("x", 1<<v.rng.IntN(12)-1))
}

// errLost means that the connection ended, as it does when the server is killed; anything else is a finding.
type errLost struct{ err error }

func (e errLost) Error() string { return "connection lost: " + e.err.Error() }

// work sends ops until the connection ends (errLost) or a reply is wrong.
func (v *victim) work(addr string) error {
	c, err := Dial(addr)
	if err != nil {
		return errLost{err}
	}
	defer c.Close()
	for {
		buf := []byte(nil)
		for range 1 + v.rng.IntN(16) {
			o := v.newOp()
			v.pending = append(v.pending, o)
			buf = o.appendTo(buf)
		}
		if err := c.Send(buf); err != nil {
			return errLost{err}
		}
		for len(v.pending) > 0 {
			o := v.pending[0]
			got, err := readOp(c, o)
			if err != nil {
				return err
			}
			if err := v.acknowledge(o, got); err != nil {
				return err
			}
			v.pending = v.pending[1:]
		}
		v.pending = nil
	}
}

// readOp reads the replies of an op and returns the last.
func readOp(c *Client, o op) (Reply, error) {
	if n := len(o.commands); n > 1 {
		for i := range n + 1 {
			r, err := c.Read()
			if err != nil {
				return r, errLost{err}
			}
			if want := map[bool]string{true: "OK", false: "QUEUED"}[i == 0]; r.String() != want {
				return r, fmt.Errorf("in a transaction %s was answered instead of %s", r, want)
			}
		}
	}
	r, err := c.Read()
	if err != nil {
		return r, errLost{err}
	}
	return r, nil
}

func (v *victim) acknowledge(o op, got Reply) error {
	v.ackedN++
	now := time.Now()
	defer func() { v.settle(now) }()
	if o.shared {
		n := got.Int
		if got.Kind == '$' && !got.Null {
			var err error
			if n, err = strconv.ParseInt(string(got.Text), 10, 64); err != nil {
				return fmt.Errorf("GET %s answered %s", sharedKey, got)
			}
		} else if err := got.Err(); err != nil {
			return fmt.Errorf("%v answered %w", o.commands, err)
		}
		v.recent = append(v.recent, ackedOp{o, n, now})
		return nil
	}
	v.recent = append(v.recent, ackedOp{op: o, at: now})
	if want := o.applyTo(v.acked); got.String() != want || got.Kind == '-' {
		return fmt.Errorf("client %d: %s was answered %s, expected %s", v.id, shorten(fmt.Sprint(o.commands)), shorten(got.String()), shorten(want))
	}
	return nil
}

// verify reads all keys and compares. What it finds is where the next cycle goes on.
func (v *victim) verify(c *Client) error {
	var buf []byte
	for _, k := range v.keys {
		buf = AppendCommand(buf, readCommand(k)...)
	}
	if err := c.Send(buf); err != nil {
		return err
	}
	actual := map[string]string{}
	for _, k := range v.keys {
		r, err := c.Read()
		if err != nil {
			return err
		}
		if actual[k], err = renderReply(k, r); err != nil {
			return err
		}
	}
	// Most often nothing that was acknowledged is lost.
	state := v.acked.clone()
	_, found, first := state.reach(actual, v.pending)
	if !found && len(v.recent) > 0 {
		ops := make([]op, len(v.recent))
		for i := range v.recent {
			ops[i] = v.recent[i].op
		}
		var applied int
		state = v.settled
		if applied, found, first = state.reach(actual, ops); found {
			v.lostN += int64(len(ops) - applied)
		}
	}
	if !found {
		return fmt.Errorf("client %d: after the crash the data is that of no moment between the last op that must not be lost and the last of %d sent ones.\n"+
			"Beside the state after that op: %s", v.id, len(v.recent)+len(v.pending), strings.Join(first, "; "))
	}
	v.pending, v.recent = nil, nil
	v.acked, v.settled = state, state.clone()
	return nil
}

// sizes is how many keys the victims' models hold.
func sizes(victims []*victim) int {
	n := 0
	for _, v := range victims {
		n += len(slices.Collect(maps.Keys(v.acked)))
	}
	return n
}
