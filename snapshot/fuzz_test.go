package snapshot

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever stands in the meta row, decoding it returns a Meta that can be written again as it is, or one of two errors.
func FuzzDecodeMeta(f *testing.F) {
	m := newPlanted().meta
	m.Format = formatVersion
	m.Lineage, m.ReplID = []byte("[{}]"), "0123456789012345678901234567890123456789"
	v, err := json.Marshal(m)
	require.NoError(f, err)
	f.Add(v)
	for _, s := range []string{`{}`, `{"Format":1}`, `{"Format":1,"C":-1}`, `{"Format":2,"C":"x"}`, `null`, `[`, `{"Format":1,"DBs":[{},{}]}`, `{"Format":1,"Lineage":"!"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		m, err := decodeMeta(v)
		if err != nil {
			var corrupt *CorruptionError
			require.True(t, errors.Is(err, ErrFormat) || errors.As(err, &corrupt), "%v", err)
			return
		}
		again, err := encodeMeta(m)
		require.NoError(t, err)
		m2, err := decodeMeta(again)
		require.NoError(t, err)
		third, err := encodeMeta(m2)
		require.NoError(t, err)
		require.Equal(t, string(again), string(third))
	})
}
