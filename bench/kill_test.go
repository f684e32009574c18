package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func redisCycles(t *testing.T, fsync string) error {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	dir, remove, err := tempDir()
	require.NoError(t, err)
	defer func() { require.NoError(t, remove()) }()
	return KillCycles{Spec: Spec{Kind: Redis, Dir: dir}, Fsync: fsync, Cycles: 3, Clients: 4,
		MaxRun: 150 * time.Millisecond, Seed: rand.Uint64(), Out: t.Output()}.Run(context.Background())
}

// The judge is right about a server that keeps its promise …
func TestKillCyclesPassRedisWithItsLog(t *testing.T) {
	require.NoError(t, redisCycles(t, "always"))
	require.NoError(t, redisCycles(t, "everysec"))
}

// … and finds out one that keeps nothing.
func TestKillCyclesConvictRedisWithoutItsLog(t *testing.T) {
	require.ErrorContains(t, redisCycles(t, ""), "after kill 1")
}

// With everysec the last acknowledged ops may be gone, but no older one, none out of turn, and no half of one.
func TestVerifyTakesTheLossOfTheLastSecond(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		name  string
		found model
		lost  int64
		ok    bool
	}{
		{"nothing lost", model{"s:0:1": "old", "s:0:2": "b", "s:0:3": "c"}, 0, true},
		{"what was on its way arrived", model{"s:0:1": "old", "s:0:2": "b", "s:0:3": "c", "s:0:4": "d"}, 0, true},
		{"the last lost", model{"s:0:1": "old", "s:0:2": "b"}, 1, true},
		{"both lost", model{"s:0:1": "old"}, 2, true},
		{"an older one lost", model{}, 0, false},
		{"one between", model{"s:0:1": "old", "s:0:3": "c"}, 0, false},
		{"arrived without the last", model{"s:0:1": "old", "s:0:2": "b", "s:0:4": "d"}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVictim(0, 1, new(sharedCounter))
			v.mayLose = time.Second
			for i, x := range []string{"old", "b", "c"} {
				o := op{commands: [][]string{{"SET", fmt.Sprint("s:0:", i+1), x}}}
				o.applyTo(v.acked)
				v.recent = append(v.recent, ackedOp{op: o, at: start.Add(time.Duration(i) * 600 * time.Millisecond)})
			}
			v.pending = []op{{commands: [][]string{{"SET", "s:0:4", "d"}}}}
			v.settle(start.Add(1500 * time.Millisecond))
			require.Len(t, v.recent, 2)
			client, err := Dial(modelServer(t, c.found))
			require.NoError(t, err)
			defer client.Close()
			if err := v.verify(client); c.ok {
				require.NoError(t, err)
				require.Equal(t, c.found, v.acked)
				require.Equal(t, c.lost, v.lostN)
			} else {
				require.Error(t, err)
			}
		})
	}
}

// One lost acknowledged op, one op executed out of its turn and half a transaction are found.
func TestVerifyFindsWhatMustNotBe(t *testing.T) {
	set := func(k, v string) op { return op{commands: [][]string{{"SET", k, v}}} }
	for _, c := range []struct {
		name  string
		sent  []op
		found model
		ok    bool
	}{
		{"nothing more", []op{set("s:0:1", "new")}, model{"s:0:0": "kept"}, true},
		{"all", []op{set("s:0:1", "new")}, model{"s:0:0": "kept", "s:0:1": "new"}, true},
		{"acknowledged op lost", []op{set("s:0:1", "new")}, model{"s:0:1": "new"}, false},
		{"a later op without an earlier one", []op{set("s:0:1", "a"), set("s:0:2", "b")}, model{"s:0:0": "kept", "s:0:2": "b"}, false},
		{"half a transaction", []op{{commands: [][]string{{"SET", "s:0:1", "a"}, {"SET", "s:0:2", "b"}}}}, model{"s:0:0": "kept", "s:0:1": "a"}, false},
		{"whole transaction", []op{{commands: [][]string{{"SET", "s:0:1", "a"}, {"SET", "s:0:2", "b"}}}},
			model{"s:0:0": "kept", "s:0:1": "a", "s:0:2": "b"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVictim(0, 1, new(sharedCounter))
			v.acked, v.settled = model{"s:0:0": "kept"}, model{"s:0:0": "kept"}
			v.pending = c.sent
			addr := modelServer(t, c.found)
			client, err := Dial(addr)
			require.NoError(t, err)
			defer client.Close()
			if err := v.verify(client); c.ok {
				require.NoError(t, err)
				require.Equal(t, c.found, v.acked)
			} else {
				require.Error(t, err)
			}
		})
	}
}
