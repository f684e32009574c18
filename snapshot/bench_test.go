package snapshot

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/wal"
)

// benchKeys are the row keys of n keys of 20 bytes, in order.
func benchKeys(n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		name := fmt.Appendf(nil, "key:%016d", i)
		keys[i] = keyspace.AppendMainKey(nil, 0, keyspace.Slot(name), keyspace.KeyHash(name), name)
	}
	slices.SortFunc(keys, func(a, b []byte) int { return slices.Compare(a, b) })
	return keys
}

// randomValue is 100 random bytes behind a main row's header.
func randomValue(dst []byte, r *rand.Rand) []byte {
	dst = append(dst[:0], 0, 0x12, 0, 0x40, 100)
	for range 25 {
		dst = binary.LittleEndian.AppendUint32(dst, r.Uint32())
	}
	return dst
}

// jsonValue is some 300 bytes of JSON as applications keep it.
func jsonValue(dst []byte, r *rand.Rand) []byte {
	dst = append(dst[:0], 0, 0x12, 0, 0x41, 0x2c)
	return fmt.Appendf(dst, `{"id":%d,"name":"user-%d","email":"user-%d@example.com","active":%v,"created_at":"2024-%02d-%02dT%02d:%02d:00Z",`+
		`"roles":["reader","writer"],"settings":{"theme":"dark","language":"en","notifications":%v,"page_size":%d},`+
		`"address":{"city":"Springfield","zip":"%05d","country":"US"},"score":%.4f}`,
		r.Uint32(), r.Uint32N(1e6), r.Uint32N(1e6), r.IntN(2) == 0, 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60),
		r.IntN(2) == 0, 10*(1+r.IntN(10)), r.IntN(1e5), r.Float64())
}

func benchFill(b testing.TB, s *Store, c wal.Offset, keys [][]byte, value func([]byte, *rand.Rand) []byte) (raw int64) {
	r := rand.New(rand.NewPCG(uint64(c), 5))
	g, err := s.NewIngest()
	require.NoError(b, err)
	var val []byte
	for _, k := range keys {
		val = value(val, r)
		raw += int64(len(k) + len(val))
		require.NoError(b, g.Set(k, val))
	}
	require.NoError(b, g.Commit(ctx(), Meta{C: c}))
	return raw
}

var profiles = []struct {
	name string
	p    *sstable.CompressionProfile
}{
	{"none", sstable.NoCompression}, {"snappy", sstable.SnappyCompression}, {"minlz", sstable.MinLZCompression},
	{"fast", sstable.FastCompression}, {"zstd1", sstable.BalancedCompression},
}

// BenchmarkCompression writes a checkpoint of 300,000 rows, then reads rows at random with blocks that are not cached.
func BenchmarkCompression(b *testing.B) {
	keys := benchKeys(300_000)
	for _, v := range []struct {
		name  string
		value func([]byte, *rand.Rand) []byte
	}{{"random100", randomValue}, {"json300", jsonValue}} {
		for _, p := range profiles {
			o := Options{Dir: "snapshot", CacheBytes: 1 << 20, compression: p.p}
			b.Run(fmt.Sprintf("op=ingest/values=%s/profile=%s", v.name, p.name), func(b *testing.B) {
				for range b.N {
					o.FS = vfs.NewMem()
					s := mustOpen(b, o)
					start := cpuTime(b)
					raw := benchFill(b, s, 1, keys, v.value)
					b.ReportMetric(float64(cpuTime(b)-start)/float64(len(keys)), "cpu-ns/row")
					b.ReportMetric(float64(s.Metrics().Ingested)/float64(raw), "disk/raw")
					require.NoError(b, s.Close())
				}
			})
			b.Run(fmt.Sprintf("op=get-uncached/values=%s/profile=%s", v.name, p.name), func(b *testing.B) {
				o.FS = vfs.NewMem()
				s := mustOpen(b, o)
				benchFill(b, s, 1, keys, v.value)
				r := rand.New(rand.NewPCG(1, 1))
				var buf []byte
				for b.Loop() {
					var ok bool
					var err error
					if buf, ok, err = s.GetInto(buf[:0], keys[r.IntN(len(keys))]); !ok || err != nil {
						b.Fatal(ok, err)
					}
				}
				require.NoError(b, s.Close())
			})
		}
	}
}

// cpuTime is what the process has used, on all cores: it says more than elapsed time where others use the machine too.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkGet compares Pebble's own Get with an iterator that asks the bottom level's filters, for rows that exist and
// rows that do not, with everything in the cache and with a cache that holds little but filters and indexes.
func BenchmarkGet(b *testing.B) {
	const n = 300_000
	keys := benchKeys(n)
	for _, depth := range []int{1, 4} { // ingests: of all, then of 30 % each
		for _, cache := range []int64{128 << 20, 8 << 20} {
			s := mustOpen(b, Options{FS: vfs.NewMem(), Dir: "snapshot", CacheBytes: cache})
			benchFill(b, s, 1, keys, randomValue)
			for i := range depth - 1 {
				r := rand.New(rand.NewPCG(uint64(i), 1))
				some := slices.DeleteFunc(slices.Clone(keys), func([]byte) bool { return r.IntN(10) >= 3 })
				benchFill(b, s, wal.Offset(i+2), some, randomValue)
			}
			for _, exists := range []bool{true, false} {
				for _, way := range []string{"pebble-get", "filtered"} {
					b.Run(fmt.Sprintf("way=%s/exists=%v/cache-mb=%d/tables-deep=%d", way, exists, cache>>20, depth), func(b *testing.B) {
						r := rand.New(rand.NewPCG(1, 1))
						var key, buf []byte
						b.ReportAllocs()
						for b.Loop() {
							key = append(key[:0], keys[r.IntN(n)]...)
							if !exists {
								key = append(key, '-')
							}
							var ok bool
							var err error
							if way == "filtered" {
								buf, ok, err = s.GetInto(buf[:0], key)
							} else {
								buf, ok, err = pebbleGet(s, buf[:0], key)
							}
							if ok != exists || err != nil {
								b.Fatal(ok, err)
							}
						}
					})
				}
			}
			require.NoError(b, s.Close())
		}
	}
}

func pebbleGet(s *Store, dst, key []byte) ([]byte, bool, error) {
	v, c, err := s.db.Get(key)
	if err == pebble.ErrNotFound {
		return dst, false, nil
	}
	if err != nil {
		return dst, false, err
	}
	dst = append(dst, v...)
	return dst, true, c.Close()
}

// BenchmarkWriteAmp is a steady load of SETs of 20-byte keys and 100-byte values, uniform over 3 million keys, with a
// checkpoint for each 128 or 256 MB of log: bytes that ingests and compactions write for a byte of log. Each ingest
// overlaps everything. Compactions are let finish after each checkpoint, so that no debt is hidden.
func BenchmarkWriteAmp(b *testing.B) {
	if os.Getenv("HOLDFAST_SWEEP") == "" {
		b.Skip("36 settings with 3 million keys each: HOLDFAST_SWEEP=1")
	}
	const n, record = 3_000_000, 160 // bytes of a SET in the log
	keys := benchKeys(n)
	for _, logMB := range []int{64, 128, 256} {
		for _, l0 := range []int{4, 8, 12, 16} {
			for _, ingestMB := range []int64{2, 4, 16} {
				b.Run(fmt.Sprintf("log-mb=%d/l0=%d/ingest-mb=%d", logMB, l0, ingestMB), func(b *testing.B) {
					for range b.N {
						s := mustOpen(b, Options{Dir: b.TempDir(), Overlap: l0 / 2, ingestBytes: ingestMB << 20})
						benchFill(b, s, 1, keys, randomValue)
						r := rand.New(rand.NewPCG(1, 1))
						before := s.Metrics()
						const checkpoints = 24
						readAmp, rows := 0, 0
						for c := range checkpoints {
							dirty := make([]bool, n)
							for range logMB << 20 / record {
								dirty[r.IntN(n)] = true
							}
							var some [][]byte
							for i, d := range dirty {
								if d {
									some = append(some, keys[i])
								}
							}
							rows += len(some)
							benchFill(b, s, wal.Offset(c+2), some, randomValue)
							readAmp = max(readAmp, s.Metrics().ReadAmp)
							settle(s)
						}
						after := s.Metrics()
						log := float64(checkpoints * logMB << 20)
						b.ReportMetric(float64(after.Ingested-before.Ingested)/log, "ingested/log-byte")
						b.ReportMetric(float64(after.Compacted-before.Compacted)/log, "compacted/log-byte")
						b.ReportMetric(float64(after.Ingested-before.Ingested+after.Compacted-before.Compacted)/log, "written/log-byte")
						b.ReportMetric(float64(readAmp), "max-read-amp")
						b.ReportMetric(float64(after.DiskSize)/1e6, "disk-MB")
						require.NoError(b, s.Close())
					}
				})
			}
		}
	}
}

// settle waits until no compaction runs or is due.
func settle(s *Store) {
	for quiet := 0; quiet < 20; {
		if s.Metrics().CompactionsOn > 0 {
			quiet = 0
		} else {
			quiet++
		}
		time.Sleep(time.Millisecond) // a benchmark: Pebble has no event for "nothing is due"
	}
}
