package digest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/snapshot/rdb"
)

func hexOf(d Redis) string { return fmt.Sprintf("%x", d[:]) }

// scores are doubles whose text goes wrong first, and random ones.
func scores(r *rand.Rand) []float64 {
	out := []float64{0, math.Copysign(0, -1), 1, -1, 100, 1000000, 0.1, 1.0 / 3, 2.0 / 3, 1e15, 1e16, 1e17, 1e18, 1e21, 1e22, 1e23, 123456789012345678,
		1e-4, 1e-5, -1e-5, 0.00012345, 0.000012345, 1e100, 1e-100, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64,
		math.MaxInt64, math.MinInt64, 1<<53 + 2, 3.5, 2.5e-10, math.Inf(1), math.Inf(-1), 4096, -4097}
	for len(out) < 1000 {
		f := math.Float64frombits(r.Uint64())
		if !math.IsNaN(f) {
			out = append(out, f, math.Trunc(r.NormFloat64()*1e6)/1e3)
		}
	}
	return out
}

// TestRedisDigest compares with DEBUG DIGEST-VALUE and DEBUG DIGEST, by way of what DUMP gives.
func TestRedisDigest(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	c := oracle(t, t.TempDir())
	require.Equal(t, hexOf(Redis{}), do(t, c, "DEBUG", "DIGEST"))

	numbers := scores(r)
	var total Redis
	for _, db := range []int{0, 2, 9} {
		c := redis.NewClient(&redis.Options{Addr: c.Options().Addr, DB: db, Protocol: 2, DisableIdentity: true})
		defer func() { require.NoError(t, c.Close()) }()
		for i := range 30 + db {
			key := fmt.Sprintf("key:%d:%d", db, i)
			for e := range 1 + i*9 {
				f := strconv.FormatFloat(numbers[(i*100+e)%len(numbers)], 'g', -1, 64)
				member := any(fmt.Sprintf("m%d", e))
				if e%2 == 0 {
					member = e * 1000
				}
				switch i % 6 {
				case 0:
					do(t, c, "SET", key, fmt.Sprint("value ", e))
				case 1:
					do(t, c, "SET", key, e)
				case 2:
					do(t, c, "RPUSH", key, member)
				case 3:
					do(t, c, "SADD", key, member)
				case 4:
					do(t, c, "HSET", key, member, f)
				case 5:
					do(t, c, "ZADD", key, f, member)
				}
			}
			if i%4 == 0 {
				do(t, c, "PEXPIRE", key, 1<<40+i)
			}
		}
		total.MixDB(uint32(db))
		for _, k := range do(t, c, "KEYS", "*").([]any) {
			key := k.(string)
			typ, payload, err := rdb.VerifyDump([]byte(do(t, c, "DUMP", key).(string)))
			require.NoError(t, err)
			var value RedisValue
			whole := RedisValue{}
			whole.D.Mix([]byte(key))
			expires := do(t, c, "PEXPIRETIME", key).(int64) >= 0
			for _, d := range []*RedisValue{&value, &whole} {
				rest, err := rdb.DecodeValue(typ, payload, d)
				require.NoError(t, err)
				require.Empty(t, rest)
				if expires {
					d.D.XorExpire()
				}
			}
			require.Equal(t, do(t, c, "DEBUG", "DIGEST-VALUE", key).([]any)[0], hexOf(value.D), "%s %v", key, typ)
			total.Xor(whole.D[:])
		}
		require.Equal(t, do(t, c, "DEBUG", "DIGEST"), hexOf(total))
	}
}
