package servertest

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// side is one of the two servers while a script runs: its address and its connections.
type side struct {
	t     testing.TB
	addr  string
	proto int
	conns map[int]*Client
	db    map[int]int // database of each connection, to be selected again after a restart
	watch *Client     // asks how many clients are blocked
}

func newSide(t testing.TB, addr string, proto int) *side {
	s := &side{t: t, addr: addr, proto: proto, conns: map[int]*Client{}, db: map[int]int{}}
	s.watch = s.dial(2)
	_, err := s.watch.Do("FLUSHALL")
	require.NoError(t, err)
	return s
}

func (s *side) dial(proto int) *Client {
	s.t.Helper()
	c, err := Dial(s.addr)
	require.NoError(s.t, err)
	if proto == 3 {
		_, err = c.Do("HELLO", "3")
		require.NoError(s.t, err)
	}
	return c
}

func (s *side) conn(i int) *Client {
	s.t.Helper()
	c := s.conns[i]
	if c == nil {
		c = s.dial(s.proto)
		s.conns[i] = c
		if db := s.db[i]; db != 0 {
			_, err := c.Do("SELECT", strconv.Itoa(db))
			require.NoError(s.t, err)
		}
	}
	return c
}

func (s *side) close() {
	for _, c := range s.conns {
		_ = c.Close() // the script may have quit
	}
	_ = s.watch.Close()
}

// restarted dials again at addr; connections return to their databases when they are used next.
func (s *side) restarted(addr string) {
	s.t.Helper()
	s.close()
	s.addr, s.conns = addr, map[int]*Client{}
	s.watch = s.dial(2)
}

func (s *side) do(st *step) []byte {
	s.t.Helper()
	c := s.conn(st.conn)
	var p []byte
	var err error
	if st.wait {
		p, err = c.Receive()
	} else {
		p, err = c.Do(st.args...)
	}
	require.NoError(s.t, err, "line %d: %s", st.line, st.text)
	if len(st.args) == 2 && strings.EqualFold(st.args[0], "select") && p[0] == '+' && p[1] == 'O' {
		if n, err := strconv.Atoi(st.args[1]); err == nil {
			s.db[st.conn] = n
		}
	}
	return p
}

var blockedField = regexp.MustCompile(`blocked_clients:(\d+)`)

// block sends a command and returns once the server has parked it.
func (s *side) block(st *step) {
	s.t.Helper()
	before := s.blocked()
	require.NoError(s.t, s.conn(st.conn).Send(st.args...))
	for range 100_000 { // each turn is a round trip: seconds at least
		if s.blocked() > before {
			return
		}
	}
	require.FailNow(s.t, "a command does not block", "%s, line %d: %s", s.addr, st.line, st.text)
}

func (s *side) blocked() int {
	s.t.Helper()
	p, err := s.watch.Do("INFO", "clients")
	require.NoError(s.t, err)
	m := blockedField.FindSubmatch(p)
	require.NotNil(s.t, m, "INFO without blocked_clients")
	n, err := strconv.Atoi(string(m[1]))
	require.NoError(s.t, err)
	return n
}

// runScript runs a script against both servers. With cold, our side writes a checkpoint and unloads everything after each
// command: the replies must not change by that (K1, S3).
func runScript(t *testing.T, s *script, proto int, redis *Proc, node *Node, cold bool) {
	theirs, ours := newSide(t, redis.Addr, proto), newSide(t, node.Addr, proto)
	defer func() { theirs.close(); ours.close() }()
	for i := range s.steps {
		st := &s.steps[i]
		if st.verb != "" {
			restarted, err := node.Verb(st.verb)
			require.NoError(t, err, "line %d", st.line)
			if restarted {
				ours.restarted(node.Addr)
			}
			continue
		}
		switch {
		case st.onlyHoldfast:
			if got := ours.do(st); string(got) != st.want[proto] {
				t.Errorf("line %d: %s\n  expected: %q\n  holdfast: %q", st.line, st.text, st.want[proto], got)
			}
		case st.blocks:
			theirs.block(st)
			ours.block(st)
		default:
			a, b := theirs.do(st), ours.do(st)
			if rule := st.ruleFor(); !rule.Agree(a, b) {
				t.Errorf("line %d: %s\n  redis:    %s\n  holdfast: %s", st.line, st.text, brief(a), brief(b))
			}
		}
		if cold {
			node.Checkpoint()
			node.Unload()
		}
	}
	a := bytes.Clone(theirs.digest())
	if b := ours.digest(); !bytes.Equal(a, b) && !s.hasOwn() {
		t.Errorf("DEBUG DIGEST differs at the end\n  redis:    %q\n  holdfast: %q", a, b)
	}
}

func (s *side) digest() []byte {
	s.t.Helper()
	p, err := s.watch.Do("DEBUG", "DIGEST")
	require.NoError(s.t, err)
	return p
}

func (st *step) ruleFor() Rule {
	if st.rule != nil {
		return *st.rule
	}
	if st.wait {
		return Rule{}
	}
	return RuleOf(st.args)
}

// hasOwn tells whether the script moves our clock or writes on our side alone, so that the data differ in the end.
func (s *script) hasOwn() bool {
	for i := range s.steps {
		if s.steps[i].onlyHoldfast || strings.HasPrefix(s.steps[i].verb, "time") {
			return true
		}
	}
	return false
}

// hasVerbs tells whether the script does more to our side than sending commands.
func (s *script) hasVerbs() bool {
	for i := range s.steps {
		if s.steps[i].verb != "" {
			return true
		}
	}
	return false
}

// brief quotes a reply for a message, without the middle of a long one.
func brief(p []byte) string {
	const most = 600
	if len(p) <= most {
		return fmt.Sprintf("%q", p)
	}
	return fmt.Sprintf("%q … %q (%d bytes)", p[:most/2], p[len(p)-most/2:], len(p))
}
