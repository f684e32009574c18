package replication

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/holdfast-db/holdfast/wal"
	"github.com/stretchr/testify/require"
)

func command(args ...string) []byte {
	list := make([][]byte, len(args))
	for i, a := range args {
		list[i] = []byte(a)
	}
	return wal.AppendCommand(nil, list...)
}

// However the stream is cut into reads, the same records come out, and every GETACK.
func TestScannerAtAnyCut(t *testing.T) {
	fake := string(command("REPLCONF", "GETACK", "*")) // inside of a value: not a command
	var all []byte
	ends := map[int]bool{}
	var getacks []int
	for _, record := range [][]byte{
		command("SELECT", "0"), command("SET", "k", fake), command("PING"),
		bytes.Join([][]byte{command("MULTI"), command("SET", "a", ""), command("REPLCONF", "x"), command("multi", "exec"), command("Exec")}, nil),
		command("replconf", "getack", "*"), command("SET", "GETACK", "EXEC"), command("REPLCONF", "GETACK", "*"), command(strings.Repeat("x", 300), "y"),
	} {
		if bytes.HasPrefix(record, []byte("*3\r\n$8\r\n")) {
			getacks = append(getacks, len(all))
		}
		all = append(all, record...)
		ends[len(all)] = true
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for cut := range len(all) + 200 {
		s := newScanner()
		var buf, out []byte
		var asked []int
		seen := 0
		for rest := all; len(rest) > 0; {
			n := min(cut, len(rest))
			if cut == 0 {
				n = 1 // byte by byte
			} else if cut >= len(all) || seen > 0 {
				n = 1 + rnd.IntN(len(rest))
			}
			seen++
			buf = append(bytes.Clone(buf), rest[:n]...) // another array each time
			rest = rest[n:]
			require.NoError(t, s.scan(buf))
			if s.getack >= 0 {
				asked = append(asked, len(out)+s.getack)
			}
			out = append(out, buf[:s.whole]...)
			require.True(t, len(out) == 0 || ends[len(out)], "cut within a record at %d", len(out))
			buf = buf[s.whole:]
			s.taken()
		}
		require.Equal(t, string(all), string(out))
		require.Empty(t, buf)
		require.Equal(t, getacks[len(getacks)-1], asked[len(asked)-1])
		if cut == 0 {
			require.Equal(t, getacks, asked)
		}
	}
}

func TestScannerRefuses(t *testing.T) {
	for _, bad := range []string{"\n", "PING\r\n", "*0\r\n", "*-1\r\n", "*1\r\n+x", "*1\r\n$-1\r\n", "*1\r\n$1\r\nxyz", "*1\n", "*x\r\n", "*99999999999\r\n", "*\r\n", "*1\r\n$9999999999\r\n", "*1\rx"} {
		s := newScanner()
		require.ErrorIs(t, s.scan([]byte(string(command("PING"))+bad)), errProtocol, "%q", bad)
		require.Equal(t, len(command("PING")), s.whole, "what came before counts")
	}
}

func TestFitGrowsForOneRecordOnly(t *testing.T) {
	buf := make([]byte, streamBuf)
	for range 4 {
		var err error
		buf, err = fit(buf)
		require.NoError(t, err)
		buf = buf[:cap(buf)]
	}
	require.Equal(t, 16*streamBuf, cap(buf))
	buf, err := fit(buf[:10])
	require.NoError(t, err)
	require.Equal(t, streamBuf, cap(buf))
	require.Len(t, buf, 10)
}

// The mark ends the snapshot wherever reads are cut, even if the snapshot is full of its beginnings; what follows stays.
func TestMarkReader(t *testing.T) {
	mark := strings.Repeat("a", 20) + strings.Repeat("b", 20)
	data := strings.Repeat("a", 100) + strings.Repeat("aaaab", 50) + mark[:39] + "aa" + strings.Repeat("a", 19)
	for _, size := range []int{16, 64, 1000} {
		size = max(size, 2*markLen)
		for name, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "half": iotest.HalfReader, "error": iotest.DataErrReader} {
			in := bufio.NewReaderSize(wrap(strings.NewReader(data+"x"+mark+"rest")), size)
			got, err := io.ReadAll(&markReader{in: in, mark: []byte(mark)})
			require.NoError(t, err, name)
			require.Equal(t, data+"x", string(got), name)
			rest, err := io.ReadAll(in)
			require.NoError(t, err)
			require.Equal(t, "rest", string(rest))
		}
	}
	for n := range len(mark) {
		_, err := io.ReadAll(&markReader{in: bufio.NewReaderSize(strings.NewReader(data+"x"+mark[:n]), 100), mark: []byte(mark)})
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
}
