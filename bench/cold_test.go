package bench

import (
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// The expectations of the cold workload are those of redis-server, for every command it sends; a server that changes a value
// behind the connection's back is found out.
func TestColdScriptExpectsWhatRedisAnswers(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	seed := rand.Uint64()
	t.Log("seed", seed)
	c := coldRun{keys: 300, size: 50, collections: 5, elements: 130, share: 0.6, conns: 4, pipeline: 3}
	e := &env{out: t.Output()}
	require.NoError(t, e.withServer(t.Context(), Redis, nil, func(p *Process) error {
		_, err := Load{Addr: p.Addr, Conns: 2, Pipeline: 16, Ops: c.keys,
			Script: func(i int) Script { return filler(int64(i), 2, c.size) }}.Run(t.Context())
		require.NoError(t, err)
		_, err = Load{Addr: p.Addr, Conns: 1, Pipeline: 8, Ops: c.collections * 2,
			Script: func(int) Script { return &collectionFiller{run: c, chunk: 100} }}.Run(t.Context())
		require.NoError(t, err)
		owners := make([]*coldScript, c.conns)
		for i := range owners {
			owners[i] = newColdScript(c, seed, i)
		}
		work := Load{Addr: p.Addr, Conns: c.conns, Pipeline: c.pipeline, Ops: 8000, Script: func(i int) Script {
			owners[i].writes = 0.5
			return owners[i]
		}}
		_, err = work.Run(t.Context())
		require.NoError(t, err)

		client, err := Dial(p.Addr)
		require.NoError(t, err)
		defer client.Close()
		for n := range c.keys {
			_, err = client.Do("SETRANGE", string(appendKey(nil, n)), "7", "!")
			require.NoError(t, err)
		}
		_, err = work.Run(t.Context())
		require.ErrorContains(t, err, "wrong answer")
		return nil
	}))
}
