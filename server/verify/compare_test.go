package verify

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// scripted is a server of the tests: keys with a place of their choice.
type scripted struct {
	addr, master string
	keys         map[string]scriptedKey
	asked        map[string]int
	offset       int64
	broken       error
}

type scriptedKey struct {
	place  [placeLen]byte
	typ    string
	value  uint64
	expire int64
}

func (s *scripted) Addr() string { return s.addr }

func (s *scripted) Pipeline(context.Context, [][]any) ([]any, error) {
	return nil, errors.New("not asked at marks")
}

func (s *scripted) Do(_ context.Context, args ...any) (any, error) {
	if args[0] == "INFO" {
		if s.master == "" {
			return "role:master\r\nrun_id:" + s.addr + "\r\nholdfast_version:1\r\n", nil
		}
		host, port, _ := strings.Cut(s.master, ":")
		return "role:slave\r\nholdfast_version:1\r\nrun_id:" + s.addr + "\r\nmaster_host:" + host + "\r\nmaster_port:" + port + "\r\n", nil
	}
	s.asked[args[1].(string)]++
	switch args[1] {
	case "MARK":
		return []any{"token", s.offset}, nil
	case "MARKED":
		return []any{s.offset, "id", []any{[]any{int64(0), int64(len(s.keys)), int64(0)}}}, nil
	case "DIGEST":
		if s.broken != nil {
			return nil, s.broken
		}
		prefix, err := hex.DecodeString(args[4].(string))
		if err != nil {
			return nil, err
		}
		type sum struct{ keys, value uint64 }
		parts := map[uint32]*sum{}
		for name, k := range s.keys {
			if string(k.place[:len(prefix)]) != string(prefix) {
				continue
			}
			n := uint32(binary.BigEndian.Uint16(k.place[len(prefix):]))
			if parts[n] == nil {
				parts[n] = &sum{}
			}
			parts[n].keys++
			parts[n].value += (k.value+uint64(k.expire)*7919)*31 + uint64(len(k.typ)) + uint64(len(name))<<32
		}
		var out []byte
		for n, p := range parts {
			out = binary.BigEndian.AppendUint32(out, n)
			out = binary.BigEndian.AppendUint64(out, p.keys)
			out = binary.BigEndian.AppendUint64(out, 0)
			out = binary.BigEndian.AppendUint64(out, p.value)
		}
		return string(out), nil
	case "KEYS":
		prefix, err := hex.DecodeString(args[4].(string))
		if err != nil {
			return nil, err
		}
		var names []string
		for name, k := range s.keys {
			if string(k.place[:len(prefix)]) == string(prefix) && hex.EncodeToString([]byte(name)) > args[5].(string) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		next := ""
		if limit := 700; len(names) > limit { // fewer than asked for, so that there are pages
			names = names[:limit]
			next = hex.EncodeToString([]byte(names[limit-1]))
		}
		list := []any{}
		for _, name := range names {
			k := s.keys[name]
			list = append(list, []any{name, hex.EncodeToString(k.place[:]), k.typ, k.expire, fmt.Sprint(k.value)})
		}
		return []any{next, list}, nil
	}
	return "OK", nil
}

// scriptedPair is a primary and a replica with n equal keys each, spread over so many slots.
func scriptedPair(n, slots int) (p, r *scripted) {
	p = &scripted{addr: "p:1", keys: map[string]scriptedKey{}, asked: map[string]int{}, offset: 77}
	r = &scripted{addr: "r:2", master: "p:1", keys: map[string]scriptedKey{}, asked: map[string]int{}, offset: 77}
	for i := range n {
		k := scriptedKey{typ: "string", value: uint64(i)}
		binary.BigEndian.PutUint16(k.place[:], uint16(i%slots))
		binary.BigEndian.PutUint64(k.place[2:], uint64(i)*0x9e3779b97f4a7c15)
		name := fmt.Sprintf("key:%06d", i)
		p.keys[name], r.keys[name] = k, k
	}
	return p, r
}

// change alters a key of s.
func (s *scripted) change(name string, f func(*scriptedKey)) {
	k := s.keys[name]
	f(&k)
	s.keys[name] = k
}

// The descent names exactly the keys that differ, however they lie, and asks for no more ranges than it must.
func TestDescent(t *testing.T) {
	for _, slots := range []int{1, 16, 16384} {
		t.Run(fmt.Sprint("slots=", slots), func(t *testing.T) {
			p, r := scriptedPair(6_000, slots)
			report, err := Run(context.Background(), []Server{p, r}, Options{})
			require.NoError(t, err)
			require.True(t, report.Same())
			require.Equal(t, int64(6_000), report.Keys)
			require.Contains(t, report.Guarantee, "offset 77")
			require.Equal(t, 1, r.asked["DIGEST"])
			require.Zero(t, r.asked["KEYS"])
			require.Equal(t, 1, r.asked["UNMARK"])

			r.change("key:000001", func(k *scriptedKey) { k.value = 999_999_999 })
			r.change("key:000002", func(k *scriptedKey) { k.typ = "hash" })
			r.change("key:000003", func(k *scriptedKey) { k.expire = 5 })
			delete(r.keys, "key:000004")
			extra := p.keys["key:000005"]
			r.keys["new"] = extra
			report, err = Run(context.Background(), []Server{p, r}, Options{})
			require.NoError(t, err)
			got := map[string]string{}
			for _, d := range report.Differences {
				require.Equal(t, "r:2", d.Server)
				got[d.Key] = d.How
			}
			require.Equal(t, map[string]string{"key:000001": Value, "key:000002": Type, "key:000003": TTL, "key:000004": Missing, "new": Extra}, got)
			require.Equal(t, int64(5), report.Differing)
			require.LessOrEqual(t, r.asked["KEYS"], 10)
		})
	}
}

// The comparison ends with as many differences as are to be named, and says that there are more.
func TestManyDifferences(t *testing.T) {
	p, r := scriptedPair(6_000, 16384)
	r.keys = map[string]scriptedKey{}
	report, err := Run(context.Background(), []Server{p, r}, Options{MaxDifferences: 3})
	require.NoError(t, err)
	require.False(t, report.Same())
	require.Len(t, report.Differences, 3)
	require.GreaterOrEqual(t, report.Differing, int64(3))
	require.True(t, report.Truncated)
	require.LessOrEqual(t, r.asked["KEYS"], 3)
	p, r = scriptedPair(100, 10)
	delete(r.keys, "key:000001")
	report, err = Run(context.Background(), []Server{p, r}, Options{MaxDifferences: 1})
	require.NoError(t, err)
	require.Equal(t, int64(1), report.Differing)
	require.False(t, report.Truncated, "that was all")
}

// What went wrong is an error, never a result; the mark is dropped.
func TestTrouble(t *testing.T) {
	p, r := scriptedPair(10, 4)
	r.broken = errors.New("NOMARK no such mark")
	_, err := Run(context.Background(), []Server{p, r}, Options{})
	require.ErrorContains(t, err, "r:2: NOMARK")
	require.Equal(t, 1, p.asked["UNMARK"])
	p, r = scriptedPair(10, 4)
	r.offset++
	_, err = Run(context.Background(), []Server{p, r}, Options{})
	require.ErrorContains(t, err, "took the mark at offset 78")
	_, err = Run(context.Background(), []Server{p}, Options{})
	require.ErrorIs(t, err, ErrTooFew)
	p, r = scriptedPair(10, 4)
	r.master = "q:1"
	_, err = Run(context.Background(), []Server{p, r}, Options{})
	require.ErrorContains(t, err, "q:1 was not named")
}

// A pass in the background takes as long as its rate says, and keeps the mark meanwhile.
func TestBackgroundPace(t *testing.T) {
	p, r := scriptedPair(640, 16384)
	now := time.Unix(1_700_000_000, 0)
	start := now
	rate := int64(1)
	b := Background{Self: r, Rate: func() int64 { return rate }, Now: func() time.Time { return now },
		Dial: func(addr string) (Server, error) {
			require.Equal(t, "p:1", addr)
			return p, nil
		},
		Sleep: func(_ context.Context, d time.Duration) error {
			require.LessOrEqual(t, d, markKeep)
			now = now.Add(d)
			return nil
		}}
	report, err := b.Pass(context.Background())
	require.NoError(t, err)
	require.True(t, report.Same())
	require.Equal(t, 640*time.Second, now.Sub(start).Round(time.Second))
	require.Greater(t, p.asked["MARKED"], 30, "the mark is kept")
	require.Equal(t, p.asked["MARKED"], r.asked["MARKED"])
	require.Equal(t, 1, p.asked["MARK"])

	r.change("key:000001", func(k *scriptedKey) { k.value++ })
	rate = 1_000_000
	report, err = b.Pass(context.Background())
	require.NoError(t, err)
	require.Equal(t, int64(1), report.Differing)
	rate = 0
	_, err = b.Pass(context.Background())
	require.ErrorIs(t, err, ErrOff)
	require.Equal(t, 3, r.asked["UNMARK"])
}
