package bench

import (
	"context"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func redisCycles(t *testing.T, policy bool) error {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	dir, remove, err := tempDir()
	require.NoError(t, err)
	defer func() { require.NoError(t, remove()) }()
	return KillCycles{Spec: Spec{Kind: Redis, Dir: dir}, Policy: policy, Cycles: 3, Clients: 4,
		MaxRun: 150 * time.Millisecond, Seed: rand.Uint64(), Out: t.Output()}.Run(context.Background())
}

// The judge is right about a server that keeps its promise …
func TestKillCyclesPassRedisWithItsLog(t *testing.T) {
	require.NoError(t, redisCycles(t, true))
}

// … and finds out one that keeps nothing.
func TestKillCyclesConvictRedisWithoutItsLog(t *testing.T) {
	require.ErrorContains(t, redisCycles(t, false), "after kill 1")
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
			v.acked = model{"s:0:0": "kept"}
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
