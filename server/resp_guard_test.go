package server

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/redcon"
)

// drain returns all commands of g as copies, and the error that ended them.
func drain(g *Guard) (cmds [][]string, err error) {
	for {
		args, err := g.Next()
		if args == nil {
			return cmds, err
		}
		var cmd []string
		for _, a := range args {
			cmd = append(cmd, string(a))
		}
		cmds = append(cmds, cmd)
	}
}

// feedSplit feeds input in pieces that end at cuts chosen by r, parsing after each.
func feedSplit(input []byte, r *rand.Rand) (cmds [][]string, err error) {
	g := NewGuard(512<<20, 1<<30)
	for len(input) > 0 {
		n := 1 + r.IntN(min(len(input), 1+r.IntN(40)))
		if err := g.Feed(input[:n]); err != nil {
			return cmds, err
		}
		input = input[n:]
		more, err := drain(g)
		cmds = append(cmds, more...)
		if err != nil {
			return cmds, err
		}
	}
	return cmds, nil
}

// Most inputs were sent to a redis-server 7.0.15, whose reply gives the error (there a CR or LF in the text becomes a
// space). The arguments of the long inline case, the bulk of exactly 512 MiB and the one of 20 digits follow from its rules
// and were not sent.
func TestGuardAsRedis(t *testing.T) {
	for _, c := range []struct {
		in, cmds, err string
		auth          bool // not authenticated
	}{
		{in: "PING\r\n", cmds: "[[PING]]"},
		{in: "*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", cmds: "[[PING] [PING]]"},
		{in: "*1\r\r$4\r\nPING\r\n", cmds: "[[PING]]"},
		{in: "\r\n\n*0\r\n*-1\r\n*-5\r\nPING\r\n", cmds: "[[PING]]"},
		{in: "PING\r\n*x\r\nPING\r\n", cmds: "[[PING]]", err: "invalid multibulk length"},
		{in: "*01\r\n", err: "invalid multibulk length"},
		{in: "*+1\r\n", err: "invalid multibulk length"},
		{in: "*-0\r\n", err: "invalid multibulk length"},
		{in: "*\r\n", err: "invalid multibulk length"},
		{in: "*2147483648\r\n", err: "invalid multibulk length"},
		{in: "*2147483647\r\n"},
		{in: "*1\r\n$-2\r\n", err: "invalid bulk length"},
		{in: "*1\r\n$536870913\r\n", err: "invalid bulk length"},
		{in: "*1\r\n$536870912\r\n"},
		{in: "*1\r\n$9223372036854775807\r\n", err: "invalid bulk length"},
		{in: "*1\r\n$99999999999999999999\r\n", err: "invalid bulk length"},
		{in: "*1\r\nx4\r\nPING\r\n", err: "expected '$', got 'x'"},
		{in: "*1\r\n\x004\r\nPING\r\n"},
		{in: "*1\r\n\r4\r\nPING\r\n", err: "expected '$', got '\r'"},
		{in: "*" + strings.Repeat("1", 70000), err: "too big mbulk count string"},
		{in: "*1\r\n$" + strings.Repeat("1", 70000), err: "too big bulk count string"},
		{in: strings.Repeat("x", 70000), err: "too big inline request"},
		{in: "PI\x00NG\r\nPING\r\n"},
		{in: "*11\r\n", err: "unauthenticated multibulk length", auth: true},
		{in: "*1\r\n$16385\r\n", err: "unauthenticated bulk length", auth: true},
		{in: "*10\r\n$16384\r\n", auth: true},
		{in: `PING "a` + "\r\n", err: "unbalanced quotes in request"},
		{in: `PING "a"b` + "\r\n", err: "unbalanced quotes in request"},
		{in: `PING '` + "\r\n", err: "unbalanced quotes in request"},
		{in: `PING 'a\'b' a"b c" "\x41\n\q\x4" "" ''` + "\r\n", cmds: "[[PING a'b ab c A\nqx4  ]]"},
		{in: "PING\vfoo\n", cmds: "[[PING\vfoo]]"},
		{in: "\vPING\t a\n", cmds: "[[PING a]]"},
	} {
		g := NewGuard(512<<20, 1<<30)
		g.SetAuthenticated(!c.auth)
		require.NoError(t, g.Feed([]byte(c.in)))
		cmds, err := drain(g)
		if c.cmds == "" {
			c.cmds = "[]"
		}
		name := fmt.Sprintf("%.40q", c.in)
		require.Equal(t, c.cmds, fmt.Sprint(cmds), name)
		if c.err == "" {
			require.NoError(t, err, name)
			continue
		}
		var pe *ProtocolError
		require.ErrorAs(t, err, &pe, name)
		require.Equal(t, "ERR Protocol error: "+c.err, pe.Text, name)
		_, again := g.Next()
		require.Equal(t, err, again)
	}
}

func TestGuardMemoryFollowsInput(t *testing.T) {
	g := NewGuard(512<<20, 1<<30)
	require.NoError(t, g.Feed([]byte("*1000000\r\n$536870912\r\nabc")))
	_, err := drain(g)
	require.NoError(t, err)
	require.LessOrEqual(t, g.Cap(), 3*readChunk)
	require.Empty(t, cap(g.args)+cap(g.refs))
}

func TestGuardQueryBufferLimit(t *testing.T) {
	g := NewGuard(512<<20, 1<<20)
	require.NoError(t, g.Feed([]byte("*1\r\n$2000000\r\n")))
	_, err := drain(g)
	require.NoError(t, err)
	require.ErrorIs(t, g.Feed(make([]byte, 1<<20)), errQueryBufferLimit)
}

// A large argument in many pieces costs each byte a bounded number of copies and no second parse.
func TestGuardLargeArgument(t *testing.T) {
	g := NewGuard(512<<20, 1<<30)
	val := bytes.Repeat([]byte("0123456789"), 1<<18)
	in := redcon.AppendArray(nil, 3)
	in = redcon.AppendBulkString(in, "SET")
	in = redcon.AppendBulkString(in, "k")
	in = redcon.AppendBulk(in, val)
	in = append(in, "PING\r\n"...)
	var got [][]string
	for len(in) > 0 {
		n := min(len(in), 7000)
		require.NoError(t, g.Feed(in[:n]))
		in = in[n:]
		cmds, err := drain(g)
		require.NoError(t, err)
		got = append(got, cmds...)
	}
	require.Equal(t, [][]string{{"SET", "k", string(val)}, {"PING"}}, got)
	g.settle()
	require.Zero(t, g.Cap())
}

func TestGuardLoan(t *testing.T) {
	g := NewGuard(512<<20, 1<<30)
	scratch := make([]byte, readChunk)
	require.True(t, g.borrow(scratch))
	n := copy(g.space(), "PING\r\n*2\r\n$4\r\nECHO\r\n$5\r\nhe")
	require.NoError(t, g.filled(n))
	cmds, err := drain(g)
	require.NoError(t, err)
	require.Equal(t, [][]string{{"PING"}}, cmds)
	g.settle()
	clear(scratch)
	require.False(t, g.borrow(scratch))
	require.NoError(t, g.Feed([]byte("llo\r\n")))
	cmds, err = drain(g)
	require.NoError(t, err)
	require.Equal(t, [][]string{{"ECHO", "hello"}}, cmds)
}

func FuzzGuard(f *testing.F) {
	f.Add([]byte("*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\nPING\r\n"), uint64(1))
	f.Add([]byte("PING \"a\\x41\" 'b'\r\n*1\r\n$-1\r\n"), uint64(2))
	f.Add([]byte("*0\r\n\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n"), uint64(3))
	f.Add([]byte("*10\r0\r0\r"), uint64(68)) // a CR in the place of the type byte ends the line
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		whole := NewGuard(512<<20, 1<<30)
		require.NoError(t, whole.Feed(in))
		want, wantErr := drain(whole)
		got, gotErr := feedSplit(in, rand.New(rand.NewPCG(seed, seed)))
		require.Equal(t, want, got)
		require.Equal(t, wantErr, gotErr)
		var pe *ProtocolError
		if wantErr != nil {
			require.True(t, errors.As(wantErr, &pe))
		}
		// What we framed and write down again in canonical form, redcon reads as the same commands.
		var canon []byte
		for _, cmd := range want {
			canon = redcon.AppendArray(canon, len(cmd))
			for _, a := range cmd {
				canon = redcon.AppendBulkString(canon, a)
			}
		}
		rest := canon
		for _, cmd := range want {
			complete, args, _, left, err := redcon.ReadNextCommand(rest, nil)
			require.NoError(t, err)
			require.True(t, complete)
			require.Equal(t, len(cmd), len(args))
			for i := range args {
				require.Equal(t, cmd[i], string(args[i]))
			}
			rest = left
		}
		again := NewGuard(512<<20, 1<<30)
		require.NoError(t, again.Feed(canon))
		cmds, err := drain(again)
		require.NoError(t, err)
		require.Equal(t, want, cmds)
	})
}

// TestGuardRandomStreams is the fuzz target's body on valid streams, with large and empty arguments.
func TestGuardRandomStreams(t *testing.T) {
	const seed = 20240611
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var in []byte
		var want [][]string
		for range 1 + r.IntN(20) {
			cmd := make([]string, 1+r.IntN(6))
			in = redcon.AppendArray(in, len(cmd))
			for i := range cmd {
				b := make([]byte, r.IntN(1+r.IntN(300)))
				for j := range b {
					b[j] = byte(r.UintN(256))
				}
				cmd[i] = string(b)
				in = redcon.AppendBulk(in, b)
			}
			want = append(want, cmd)
		}
		got, err := feedSplit(in, r)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func BenchmarkGuard(b *testing.B) {
	cmd := []byte("*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$32\r\n01234567890123456789012345678901\r\n")
	const pipeline = 16
	in := bytes.Repeat(cmd, pipeline)
	b.Run(fmt.Sprintf("cmd=set/pipeline=%d", pipeline), func(b *testing.B) {
		g := NewGuard(512<<20, 1<<30)
		scratch := make([]byte, readChunk)
		b.SetBytes(int64(len(in)))
		b.ReportAllocs()
		for b.Loop() {
			g.borrow(scratch)
			n := copy(g.space(), in)
			if err := g.filled(n); err != nil {
				b.Fatal(err)
			}
			for {
				args, err := g.Next()
				if err != nil {
					b.Fatal(err)
				}
				if args == nil {
					break
				}
			}
			g.settle()
		}
	})
}
