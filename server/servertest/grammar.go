package servertest

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// grammar lists the shapes of each command that random streams draw from. A word is literal, but for:
//
//	[ … ]   one time in three      ( … | … )   one of these      { … }   one to four times
//	$s $l $h $t $z   a key that mostly holds a string, list, hash, set, sorted set; $k any of them
//	$y   a sorted set whose scores are all 0: what ranges by member mean is defined for these only
//	$f   a field or member     $v   a value     $i   a small index     $n   an integer to add     $x   a score
//	$w   a positive weight
//	$c   a count               $o   an offset in bytes or bits          $ttl $ttlms   far ahead
//	$at $atms   a time that is past or far ahead    $db   a database    $p   a pattern    $min $max   ends of a score range
//	$lex   an end of a range of members             $ty   a type of BITFIELD              $dump   a payload of DUMP
//
// Scores of -0 are left out, since Redis drops the sign in packed sorted sets only and we drop it always (D1): so are
// weights that make them. Values that no two servers could agree on are left out, too: draws at random with a choice, orders of hash tables that
// decide what is stored, blocking without a timeout. Commands whose arguments must stay as they are begin with '!': others
// lose, gain and swap an argument now and then.
var grammar = []string{
	// strings
	"GET $s", "SET $s $v", "SET $s $v [ ( NX | XX ) ] [ GET ] [ ( EX $ttl | PX $ttlms | EXAT $at | PXAT $atms | KEEPTTL ) ]",
	"SET $s ( $n | $x )", "SETNX $s $v", "SETEX $s $ttl $v", "PSETEX $s $ttlms $v", "SETEX $s ( 0 | -1 | x ) $v",
	"GETSET $s $v", "GETDEL $s", "GETEX $s [ ( EX $ttl | PX $ttlms | EXAT $at | PXAT $atms | PERSIST ) ]",
	"MGET { $k }", "MSET { $s $v }", "MSETNX { $s $v }", "APPEND $s $v", "STRLEN $s", "SETRANGE $s $o $v",
	"GETRANGE $s $i $i", "SUBSTR $s $i $i", "INCR $s", "DECR $s", "INCRBY $s $n", "DECRBY $s $n", "INCRBYFLOAT $s $x",
	"LCS $s $s [ ( LEN | IDX ) ] [ MINMATCHLEN $c ] [ WITHMATCHLEN ]",
	"SETBIT $s $o ( 0 | 1 | 1 | 2 )", "GETBIT $s $o", "BITCOUNT $s [ $i $i [ ( BYTE | BIT ) ] ]",
	"BITPOS $s ( 0 | 1 | 2 ) [ $i [ $i [ ( BYTE | BIT ) ] ] ]", "BITOP ( AND | OR | XOR ) $s { $s }", "BITOP NOT $s $s",
	"BITFIELD $s { ( GET $ty $o | SET $ty $o $n | INCRBY $ty $o $n | OVERFLOW ( WRAP | SAT | FAIL ) ) }",
	"BITFIELD $s GET $ty #$i SET $ty #$i $n", "BITFIELD_RO $s { GET $ty $o }",
	// keys
	"DEL { $k }", "UNLINK { $k }", "EXISTS { $k }", "TOUCH { $k }", "TYPE $k", "RENAME $k $k", "RENAMENX $k $k",
	"COPY $k $k [ DB $db ] [ REPLACE ]", "MOVE $k $db", "!KEYS $p", "!DBSIZE", "!SCAN 0 COUNT 100000 [ MATCH $p ] [ TYPE ( string | hash | list | set | zset | x ) ]",
	"!RANDOMKEY", "EXPIRE $k $ttl", "PEXPIRE $k $ttlms", "EXPIREAT $k $at [ ( NX | XX | GT | LT ) ]",
	"PEXPIREAT $k $atms [ ( NX | XX | GT | LT ) ]", "EXPIRE $k ( -1 | 0 | x | 9223372036854775807 )", "TTL $k", "PTTL $k",
	"EXPIRETIME $k", "PEXPIRETIME $k", "PERSIST $k", "OBJECT ENCODING $k", "OBJECT ENCODING $k", "OBJECT REFCOUNT $k", "OBJECT FREQ $k",
	"!SORT ( $l | $t ) [ LIMIT $i $c ] [ ( ASC | DESC ) ] [ ALPHA ]", "!SORT $l BY s* [ DESC ] { GET ( # | h*->$f | s* | x ) }",
	"!SORT ( $l | $t ) ALPHA [ LIMIT $i $c ] STORE $l", "!SORT_RO $l [ ALPHA ]", "!SORT $l BY nosort [ GET # ] [ LIMIT $i $c ]", "!SORT ( $l | $t ) BY h*->a STORE $l",
	"RESTORE $k ( 0 | $ttlms ) $dump [ REPLACE ]", "RESTORE $k $atms $dump REPLACE ABSTTL", "!DUMP $k", "MEMORY USAGE $k",
	"SWAPDB 0 1", "!SELECT ( 0 | 0 | 0 | 1 )", "SELECT ( 0 | 99 | x )", "PING [ $v ]", "ECHO $v",
	// hashes
	"HSET $h { $f $v }", "HSET $h { $f $v }", "HSET $h { $f ( $n | $x ) }", "HMSET $h { $f $v }", "HSETNX $h $f $v", "HGET $h $f",
	"HMGET $h { $f }", "HGETALL $h", "HKEYS $h", "HVALS $h", "HLEN $h", "HSTRLEN $h $f", "HEXISTS $h $f", "HDEL $h { $f }",
	"HINCRBY $h $f $n", "HINCRBYFLOAT $h $f $x", "!HRANDFIELD $h 100000 [ WITHVALUES ]", "!HSCAN $h 0 COUNT 100000 [ MATCH $p ]",
	// sets
	"SADD $t { $f }", "SADD $t { $f }", "SADD $t { $i }", "SREM $t { $f }", "SISMEMBER $t $f", "SMISMEMBER $t { $f }", "SCARD $t", "SMEMBERS $t",
	"SMOVE $t $t $f", "SINTER { $t }", "SUNION { $t }", "SDIFF { $t }", "SINTERSTORE $t { $t }", "SUNIONSTORE $t { $t }",
	"SDIFFSTORE $t { $t }", "SINTERCARD 2 $t $t [ LIMIT $c ]", "!SPOP $t ( 100000 | 0 | -1 )", "!SRANDMEMBER $t 100000",
	"!SSCAN $t 0 COUNT 100000 [ MATCH $p ]",
	// lists
	"LPUSH $l { $v }", "RPUSH $l { $v }", "LPUSH $l { $f }", "RPUSH $l { $f }", "LPUSHX $l { $v }", "RPUSHX $l $f", "LPOP $l [ $c ]", "RPOP $l [ $c ]", "LLEN $l",
	"LINDEX $l $i", "LSET $l $i $v", "LINSERT $l ( BEFORE | AFTER ) $f $v", "LRANGE $l $i $i", "LTRIM $l $i $i", "LTRIM $l 0 20", "LREM $l $i $f",
	"LPOS $l $f [ RANK $i ] [ COUNT $c ] [ MAXLEN $c ]", "LMOVE $l $l ( LEFT | RIGHT ) ( LEFT | RIGHT )", "RPOPLPUSH $l $l",
	"LMPOP 2 $l $l ( LEFT | RIGHT ) [ COUNT $c ]", "!BLPOP $l $l 0.001", "!BRPOP $l ( 0.001 | x | -1 )",
	"!BLMOVE $l $l LEFT RIGHT 0.001", "!BRPOPLPUSH $l $l 0.001", "!BLMPOP 0.001 2 $l $l LEFT [ COUNT $c ]",
	// sorted sets
	"ZADD $z { $x $f }", "ZADD $z { $x $f }", "ZADD $z [ ( NX | XX ) ] [ ( GT | LT ) ] [ CH ] [ INCR ] $x $f", "ZADD $z [ ( NX | XX | GT | LT ) ] [ CH ] { $x $f }",
	"ZREM $z { $f }", "ZSCORE $z $f", "ZMSCORE $z { $f }", "ZINCRBY $z $x $f", "ZCARD $z", "ZCOUNT $z $min $max",
	"!ZRANK $z $f", "!ZREVRANK $z $f", "ZRANGE $z $i $i [ REV ] [ WITHSCORES ]",
	"ZRANGE $z $min $max BYSCORE [ LIMIT $i $c ] [ WITHSCORES ]", "ZRANGE $z $max $min BYSCORE REV [ LIMIT $i $c ] [ WITHSCORES ]",
	"ZREVRANGE $z $i $i [ WITHSCORES ]", "ZRANGEBYSCORE $z $min $max [ WITHSCORES ] [ LIMIT $i $c ]",
	"ZREVRANGEBYSCORE $z $max $min [ WITHSCORES ] [ LIMIT $i $c ]", "ZRANGESTORE $z $z $i $i [ REV ]",
	"ZRANGESTORE $z $z $min $max BYSCORE [ LIMIT $i $c ]", "ZREMRANGEBYRANK $z $i $i", "ZREMRANGEBYSCORE $z $min $max",
	"ZPOPMIN $z [ $c ]", "ZPOPMAX $z [ $c ]", "ZMPOP 2 $z $z ( MIN | MAX ) [ COUNT $c ]", "!BZPOPMIN $z $z 0.001", "!BZPOPMAX $z 0.001",
	"!BZMPOP 0.001 2 $z $z MIN [ COUNT $c ]", "ZUNION 2 $z ( $z | $t ) [ WEIGHTS $w $w ] [ AGGREGATE ( SUM | MIN | MAX ) ] [ WITHSCORES ]",
	"ZINTER 2 $z ( $z | $t ) [ WEIGHTS $w $w ] [ AGGREGATE ( SUM | MIN | MAX ) ] [ WITHSCORES ]", "ZDIFF 2 $z ( $z | $t ) [ WITHSCORES ]",
	"ZUNIONSTORE $z 2 $z ( $z | $t ) [ WEIGHTS $w $w ] [ AGGREGATE ( SUM | MIN | MAX ) ]",
	"ZINTERSTORE $z 2 $z ( $z | $t ) [ WEIGHTS $w $w ] [ AGGREGATE ( SUM | MIN | MAX ) ]", "ZDIFFSTORE $z 2 $z $z",
	"ZINTERCARD 2 $z $z [ LIMIT $c ]", "!ZRANDMEMBER $z 100000 [ WITHSCORES ]", "!ZSCAN $z 0 COUNT 100000 [ MATCH $p ]",
	"!ZADD $y { 0 $f }", "!ZREM $y { $f }", "!ZLEXCOUNT $y $lex $lex", "!ZRANGE $y $lex $lex BYLEX [ LIMIT $i $c ]",
	"!ZRANGE $y $lex $lex BYLEX REV [ LIMIT $i $c ]", "!ZRANGEBYLEX $y $lex $lex [ LIMIT $i $c ]", "!ZREVRANGEBYLEX $y $lex $lex [ LIMIT $i $c ]",
	"!ZREMRANGEBYLEX $y $lex $lex", "!ZRANGESTORE $z $y $lex $lex BYLEX", "!ZADD $y { 0 $f }",
}

// rare shapes empty the data; they are drawn once in rareEvery commands.
var rare = []string{"!FLUSHDB [ ( SYNC | ASYNC ) ]", "!FLUSHALL"}

const rareEvery = 2000

// Command is one command of a stream with what must agree of its replies.
type Command struct {
	Args []string
	Rule Rule
	// Queued are the commands of the transaction that an EXEC ends; its reply is compared element by element.
	Queued []Command
}

// Agree tells whether the replies of both servers agree.
func (c *Command) Agree(a, b []byte) bool {
	if len(c.Queued) == 0 {
		return c.Rule.Agree(a, b)
	}
	ea, eb := elements(a), elements(b)
	if len(ea) == 0 || len(ea) != len(eb) || len(ea) > len(c.Queued) {
		return bytes.Equal(a, b) // an error or a null
	}
	queued := c.Queued
	for i := range ea {
		if !queued[i].Agree(ea[i], eb[i]) {
			return false
		}
	}
	return true
}

// Sorts tells whether c is SORT. A sorted set that is sorted by SORT changes its encoding in Redis, although it is only read;
// here no read changes anything, so streams sort lists and sets only.
func (c *Command) Sorts() bool { return strings.HasPrefix(strings.ToLower(c.Args[0]), "sort") }

// Stream yields random commands. The same seed yields the same stream.
type Stream struct {
	r      *rand.Rand
	now    int64     // unix seconds, for times that are past or far ahead
	dumps  []string  // payloads for RESTORE
	queued []Command // inside MULTI
	multi  int       // commands left until EXEC
}

// NewStream makes a stream; now is the time in unix seconds that "past" and "far ahead" refer to.
func NewStream(seed uint64, now int64) *Stream {
	return &Stream{r: rand.New(rand.NewPCG(seed, 0)), now: now}
}

// AddDump makes a payload of DUMP available to RESTORE.
func (g *Stream) AddDump(payload string) {
	const kept = 64
	if len(g.dumps) < kept {
		g.dumps = append(g.dumps, payload)
		return
	}
	g.dumps[g.r.IntN(kept)] = payload
}

// Next returns the next command.
func (g *Stream) Next() Command {
	if g.multi > 0 {
		if g.multi--; g.multi == 0 {
			q := g.queued
			g.queued = nil
			if g.one(8) {
				return Command{Args: []string{"DISCARD"}}
			}
			return Command{Args: []string{"EXEC"}, Queued: q}
		}
		c := g.draw()
		for c.Sorts() {
			c = g.draw() // what it sorts is not known yet
		}
		g.queued = append(g.queued, c)
		return c
	}
	if g.one(40) {
		g.multi = 2 + g.r.IntN(6)
		return Command{Args: []string{"MULTI"}}
	}
	return g.draw()
}

func (g *Stream) draw() Command {
	shape := grammar[g.r.IntN(len(grammar))]
	if g.one(rareEvery) {
		shape = rare[g.r.IntN(len(rare))]
	}
	fixed := strings.HasPrefix(shape, "!")
	words := strings.Fields(strings.TrimPrefix(shape, "!"))
	args, _ := g.expand(nil, words, true)
	if !fixed && g.one(25) {
		args = g.damage(args)
	}
	if g.one(8) {
		args[0] = strings.ToLower(args[0])
	}
	return Command{Args: args, Rule: streamRule(args)}
}

// streamRule is RuleOf, and what a stream cannot hold equal: times that pass, draws, and payloads whose encoding is ours.
func streamRule(args []string) Rule {
	switch strings.ToLower(args[0]) {
	case "object":
		if len(args) > 1 && strings.EqualFold(args[1], "encoding") {
			return Rule{kind: ruleEncoding}
		}
		return Rule{kind: ruleKindOnly} // REFCOUNT tells whether a small integer is shared, which depends on what wrote it
	case "ttl", "expiretime":
		return Rule{kind: ruleNear, near: 60}
	case "pttl", "pexpiretime":
		return Rule{kind: ruleNear, near: 60_000}
	case "randomkey", "dump", "memory", "dbsize":
		return Rule{kind: ruleKindOnly} // DBSIZE counts keys that have expired until they are met
	}
	return RuleOf(args)
}

// damage makes a command one that a careless client would send.
func (g *Stream) damage(args []string) []string {
	switch i := g.r.IntN(len(args)); g.r.IntN(4) {
	case 0:
		if len(args) > 1 {
			return args[:len(args)-1]
		}
	case 1:
		return append(args, g.word("$f"))
	case 2:
		if i > 0 {
			args[i] = g.bad()
		}
	default:
		if j := g.r.IntN(len(args)); i > 0 && j > 0 {
			args[i], args[j] = args[j], args[i]
		}
	}
	return args
}

// expand appends what words make to args, up to a closing word, and returns the words after it. Without live nothing is
// drawn or appended.
func (g *Stream) expand(args []string, words []string, live bool) ([]string, []string) {
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		switch w {
		case "]", ")", "}", "|":
			return args, append([]string{w}, words...)
		case "[":
			on := live && g.one(3)
			args, words = g.expand(args, words, on)
			words = words[1:]
		case "{":
			body := words
			n := 0
			if live {
				n = 1 + g.r.IntN(4)
			}
			_, words = g.expand(nil, body, false)
			for range n {
				args, _ = g.expand(args, body, true)
			}
			words = words[1:]
		case "(":
			pick := 0
			if live {
				pick = g.r.IntN(alternatives(words))
			}
			for i := 0; ; i++ {
				args, words = g.expand(args, words, live && i == pick)
				end := words[0]
				words = words[1:]
				if end == ")" {
					break
				}
			}
		default:
			if live {
				args = append(args, g.literal(w))
			}
		}
	}
	return args, nil
}

// alternatives counts the alternatives of the group that begins words.
func alternatives(words []string) int {
	n, depth := 1, 0
	for _, w := range words {
		switch w {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			if depth == 0 {
				return n
			}
			depth--
		case "|":
			if depth == 0 {
				n++
			}
		}
	}
	panic("servertest: unbalanced shape")
}

func (g *Stream) literal(w string) string {
	at := strings.IndexByte(w, '$')
	if at < 0 {
		return w
	}
	return w[:at] + g.word(w[at:])
}

func (g *Stream) one(n int) bool { return g.r.IntN(n) == 0 }

func (g *Stream) pick(words ...string) string { return words[g.r.IntN(len(words))] }

func (g *Stream) key(kind byte) string {
	if kind == 'k' || g.one(12) {
		kind = "slhtz"[g.r.IntN(5)]
	}
	return string(kind) + strconv.Itoa(g.r.IntN(5))
}

// bad returns what no number should look like, and the extremes of those that are: none that as an offset of SETBIT would
// make a string of hundreds of megabytes.
func (g *Stream) bad() string {
	return g.pick("", "x", " 1", "1 ", "1.5", "+1", "01", "1e3", "0x10", "inf", "-inf", "nan", "9223372036854775807", "-9223372036854775808",
		"9223372036854775808", "18446744073709551616", "1e400", "-1", "0", "4294967296000")
}

func (g *Stream) integer(lo, hi int) string {
	if g.one(40) {
		return g.bad()
	}
	return strconv.Itoa(lo + g.r.IntN(hi-lo+1))
}

// word draws what a $word stands for.
func (g *Stream) word(w string) string {
	r := g.r
	switch w {
	case "$s", "$l", "$h", "$t", "$z", "$k":
		return g.key(w[1])
	case "$y":
		return "y" + strconv.Itoa(r.IntN(3))
	case "$f":
		if g.one(30) {
			return strings.Repeat(string(rune('a'+r.IntN(3))), 60+r.IntN(10))
		}
		if g.one(3) {
			return strconv.Itoa(r.IntN(16))
		}
		return string(rune('a' + r.IntN(16)))
	case "$v":
		return g.value()
	case "$i":
		return g.integer(-12, 12)
	case "$n":
		if g.one(8) {
			return g.pick("9223372036854775807", "-9223372036854775808", "9223372036854775800", "4611686018427387904", "-0")
		}
		return g.integer(-300, 300)
	case "$x":
		switch r.IntN(8) {
		case 0:
			return g.pick("inf", "-inf", "0.1", "1e300", "1e-5", "3.0e2", "0x1p3", "1e17", "123456789012345678", "-1e-300")
		case 1:
			return strconv.FormatFloat(r.NormFloat64()*1000, 'g', -1, 64)
		case 2:
			return fmt.Sprintf("%.2f", float64(r.IntN(2000))/100-10)
		}
		return g.integer(-8, 8)
	case "$w":
		return g.pick("1", "2", "0.5", "3", "1e3", "inf")
	case "$c":
		return g.integer(-1, 6)
	case "$o":
		if g.one(30) {
			return g.bad()
		}
		if g.one(6) {
			return strconv.Itoa(r.IntN(3000))
		}
		return strconv.Itoa(r.IntN(40))
	case "$ttl":
		return strconv.Itoa(100_000 + r.IntN(1<<30))
	case "$ttlms":
		return strconv.Itoa(100_000_000 + r.IntN(1<<40))
	case "$at", "$atms":
		at := g.now + 1_000_000 + int64(r.IntN(5))*1_000_000
		if g.one(5) {
			at = int64(1 + r.IntN(1000))
		}
		if w == "$atms" {
			at = at*1000 + int64(r.IntN(2))
		}
		return strconv.FormatInt(at, 10)
	case "$db":
		return g.pick("0", "1", "1", "0", "1", "99", "x", "-1", "2147483648")
	case "$p":
		return g.pick("*", "*", "a*", "[a-f]", "s?", "*[0-4]", "[^a]*", "?", "\\*", "z[0-2", "**a", "[c-a]*", "")
	case "$min":
		return g.pick("", "(", "") + g.bound(-8, 3)
	case "$max":
		return g.pick("", "(", "") + g.bound(-3, 8)
	case "$lex":
		return g.pick("-", "+", "[a", "(c", "[f", "(0", "[5", "[h", "(k", "[", "(", "x", "")
	case "$ty":
		return g.pick("u1", "u4", "u8", "i8", "i16", "u13", "i5", "u32", "i64", "u63", "i64", "i1", "u64", "i65", "u0", "x")
	case "$dump":
		if len(g.dumps) == 0 || g.one(20) {
			return g.pick("", "x", "\x00\x01a\x0a\x00aaaaaaaa")
		}
		return g.dumps[r.IntN(len(g.dumps))]
	}
	panic("servertest: unknown word " + w)
}

func (g *Stream) bound(lo, hi int) string {
	if g.one(6) {
		return g.pick("inf", "-inf", "+inf", "nan", "x", "", "0.5")
	}
	return strconv.Itoa(lo + g.r.IntN(hi-lo+1))
}

func (g *Stream) value() string {
	r := g.r
	switch r.IntN(10) {
	case 0, 1, 2:
		return strconv.Itoa(r.IntN(200) - 50)
	case 3:
		return g.pick("", "\x00", "a\r\nb", "\xff\xfe", "12345678901234567890", "-0", "007", "1.50", " 1", "9223372036854775807", "3.14", "1e2")
	case 4:
		return strings.Repeat(g.pick("ab", "x", "0"), 10+r.IntN(60))
	case 5:
		n := 1 << (6 + r.IntN(7))
		if g.one(4) {
			n = 5000 + r.IntN(9000)
		}
		return strings.Repeat(string(rune('a'+r.IntN(20))), n)
	case 6:
		return strconv.FormatInt(r.Int64()-math.MaxInt64/2, 10)
	}
	return g.word("$f") + g.word("$f")
}
