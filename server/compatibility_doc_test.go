package server

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/command"
)

// commandGroups are the groups of the command table in the order of the page, with their titles.
var commandGroups = [][2]string{
	{"string", "Strings"}, {"bitmap", "Bitmaps"}, {"generic", "Keys"}, {"hash", "Hashes"}, {"list", "Lists"}, {"set", "Sets"},
	{"sorted-set", "Sorted sets"}, {"transactions", "Transactions"}, {"connection", "Connections"}, {"pubsub", "Publish and subscribe"},
	{"server", "Server"},
	{"holdfast", "Holdfast's own"},
}

// difference is something that a client can see to be otherwise than in Redis 7.0.15.
type difference struct{ what, here, why string }

// differences are the ones that are known, by what they concern. A golden script that finds another one either has it
// fixed or put down here.
var differences = []struct {
	title string
	rows  []difference
}{
	{"Durability and memory", []difference{
		{"`appendfsync`", "The default is `always`: a reply, also to a read, leaves when all that it wrote or saw is on disk.",
			"What was answered survives. Redis's default is to lose up to a second."},
		{"`maxmemory`", "The budget of memory, not of data: with `noeviction` what is used least leaves memory and is read back when it is asked for. Writes are not refused with OOM. The other policies delete keys, as in Redis.",
			"Data may be larger than memory."},
		{"`SAVE`, `BGSAVE`, `BGREWRITEAOF`", "All three write a checkpoint. There is no RDB file and no append-only file; what INFO says of them is said of checkpoints and of the log.",
			"The log and the snapshot store are the data."},
		{"`MEMORY USAGE`, `MEMORY STATS`, INFO memory", "Bytes of this server's own structures.", "They are not Redis's, nor is the allocator."},
		{"LFU: `OBJECT FREQ`, `maxmemory-policy *-lfu`", "Frequency is judged by how long ago a key was used: 5, less one for each minute, at least 0.",
			"A counter for each key costs memory, and changes by reading would make clean data dirty."},
		{"`OBJECT IDLETIME`", "0 for a key that was not in memory.", "When it was used last is not stored."},
	}},
	{"Replies", []difference{
		{"`SCAN`, `HSCAN`, `SSCAN`, `ZSCAN`", "A cursor is a position in the order of hashes, so its values differ, it needs no state, and it stays valid over a restart. COUNT is a number of elements, where Redis counts buckets; elements at one position come together. Every 64-bit cursor is taken, as in Redis.",
			"The order is the same in memory and on disk."},
		{"Order of sets, hashes, KEYS", "Another one than Redis's, where Redis promises none.", "The hash function is another."},
		{"`DUMP`", "The plainest form that every Redis since version 5 restores (since 7.4 if fields of a hash expire), not the encoding in memory. `RESTORE` takes the forms of Redis 2.8 to 7.4 for the types that are there.",
			"Values are stored in one form whatever the limits of encodings are."},
		{"`RESTORE` of damaged payloads", "Refused in some cases where Redis takes them: lengths that run into the trailer, texts that only strtod calls numbers.",
			"What is stored must be read back."},
		{"Sorted sets: a score of -0", "Stored as 0, always. Redis drops the sign as long as the set is small (listpack) and keeps it in a large one (skiplist), where ZSCORE says `-0`.",
			"What is kept must not depend on a limit that can be configured (D1)."},
		{"`OBJECT ENCODING` of strings", "A number is `int` at once, also after INCRBYFLOAT; a command that changes nothing (SETBIT of a bit that is set) leaves the encoding alone. Redis says `embstr` and `raw` there until the key is loaded from a file.",
			"The encoding follows from the value."},
		{"`OBJECT ENCODING` of a sorted set after SORT", "Unchanged. Redis turns it into a skiplist.", "Reading changes nothing."},
		{"`OBJECT REFCOUNT`", "1, but for integers from 0 to 9999 in a server without `maxmemory`: whether Redis shares one of those depends on the command that wrote it.",
			"No value is shared here."},
		{"`SORT` after a number out of range", "Only that one is refused. Redis does not clear errno, and may refuse numbers that follow.", "An error of Redis."},
		{"`SRANDMEMBER`, `HRANDFIELD`, `ZRANDMEMBER` with a count below -16777216", "`ERR value is out of range`.", "Redis can be made to use up its memory by one command."},
		{"`TIME`", "To the millisecond.", "It is the time of the hold of the executor."},
		{"`HELP` of most commands, `LOLWUT`, `MEMORY DOCTOR`, `LATENCY DOCTOR`", "Texts of our own.", "They tell of this server."},
	}},
	{"Transactions, watching, statistics", []difference{
		{"CONFIG REWRITE, CONFIG SET of a directive that opens or closes something, DEBUG RELOAD and REPLICAOF in MULTI", "They run in their place, but the transaction lets go of the lock for them: others may see what is between, and the log has two records.",
			"They wait, and the lock must not be held meanwhile."},
		{"`WATCH` and an `LTRIM` that removes nothing", "The key counts as unchanged.", "Nothing is written then."},
		{"`keyspace_hits`, `keyspace_misses`", "As in Redis. DEBUG RELOAD sets both to 0.", "It begins with new memory."},
		{"Keyspace notifications", "They leave when what they tell of is on disk, as replies do. A client that listens with RESP3 to what it does itself hears of it behind its reply; in Redis that depends on the command.",
			"What was told, no crash takes back (A1)."},
		{"Keyspace notifications of `SORT … STORE` on a replica", "`rpush`, after `del` if the key existed.", "The stream has these two commands."},
		{"Keyspace notifications of SCAN", "A key that SCAN finds expired is told of when it is deleted, soon after.", "Reading changes nothing."},
		{"`CLIENT TRACKING` and SWAPDB", "All keys are invalidated. Redis invalidates none.", "Keys are tracked by name: what was cached may be wrong."},
		{"ACL", "One user, `default`, with the password of `requirepass`.", "Not done yet."},
	}},
	{"The stream of commands (the log, and what replicas will read)", []difference{
		{"`SPOP` with a count", "One SREM for up to 1024 members. Redis sends one for each.", "Shorter, and the same data."},
		{"`SORT … STORE`", "DEL and RPUSH with the result. Redis sends SORT as it came.", "What patterns look up must not be looked up again (D1)."},
		{"`EXPIRE` with NX, XX, GT, LT", "PEXPIREAT without the condition.", "It was met."},
		{"`PUBLISH`, `SPUBLISH`", "In the stream while replicas are attached, and not while the disk refuses writes. A replica that was away does not hear of what was said meanwhile if none was attached.",
			"The log is on disk: messages that nobody will read are not worth their bytes."},
		{"Hash fields that expire", "One HDEL for up to 64 fields; HPERSIST with the fields that it was done for; HSETEX as HSET and HPEXPIREAT.", "Shorter, the same on a replica that still has what has expired, and Redis 7.4 knows them all."},
		{"`RESTORE`", "With REPLACE and ABSTTL.", "The time must not depend on when it is applied (D1)."},
	}},
	{"More than Redis 7.0.15", []difference{
		{"`ZRANK`, `ZREVRANK`", "WITHSCORE, as in Redis 7.2.", ""},
		{"Hash fields that expire: `HEXPIRE` … `HPERSIST`, `HGETEX`, `HSETEX`, `HGETDEL`", "As in Redis 7.4 and 8.0, but that HEXPIRE does not bring a field back that has expired and is not yet deleted, and that a hash is `listpackex` only while a field of it expires.",
			"A field that no command shows is gone. The encoding follows from the value."},
		{"INFO: `expired_subkeys`, `subexpiry`", "As in Redis 7.4; `subexpiry` only where it is not 0.", "Else the line is that of 7.0.15."},
		{"`CLIENT SETINFO`, `CLIENT NO-TOUCH`, `CLIENT KILL … MAXAGE`", "As in later versions.", ""},
		{"`HOLDFAST`, `DEBUG CHECKPOINT`, `DEBUG PLANT`, `DEBUG UNLOAD`, INFO's section `holdfast`", "Our own.", ""},
	}},
}

// absent are the commands of Redis 7.0.15 that are not there, by subject. A container stands for its subcommands.
var absent = []struct{ title, names string }{
	{"Streams", "xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange xsetid xtrim"},
	{"Scripts and functions", "eval eval_ro evalsha evalsha_ro fcall fcall_ro function script"},
	{"HyperLogLog", "pfadd pfcount pfdebug pfmerge pfselftest"},
	{"Geography", "geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch geosearchstore"},
	{"Replication", "restore-asking"},
	{"Cluster", "asking cluster migrate readonly readwrite"},
	{"Access control", "acl|deluser acl|dryrun acl|genpass acl|getuser acl|load acl|log acl|save acl|setuser"},
	{"Modules", "module"},
}

// The page of compatibility is generated from the command table: HOLDFAST_UPDATE=1 writes it anew.
func TestCompatibilityPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Compatibility\n\nHoldfast speaks RESP2 and RESP3 and answers as Redis 7.0.15 does, byte for byte: golden scripts and random streams of\n" +
		"commands (`server/servertest`) compare it with a real redis-server. This page lists the commands that are there, what is\n" +
		"known to differ, and what is not there yet. It is generated from the table that the server uses. Directives of the\n" +
		"configuration: [CONFIGURATION.md](CONFIGURATION.md).\n\n## Commands\n\n`since` is the version of Redis that brought the command.\n")
	table := command.NewTable()
	rows := 0
	for _, g := range commandGroups {
		fmt.Fprintf(&b, "\n### %s\n\n| command | since | |\n|---|---|---|\n", g[1])
		eachRow(table, func(s *command.Spec) {
			if s.Group != g[0] {
				return
			}
			rows++
			if len(s.Subcommands) > 0 && s.Arity == -2 {
				return // a container does nothing by itself
			}
			name := strings.ToUpper(strings.ReplaceAll(s.FullName, "|", " "))
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, s.Since, strings.ReplaceAll(s.Summary, "|", "\\|"))
		})
	}
	require.Equal(t, table.Count(), rows, "a group of the command table is not in commandGroups")

	b.WriteString("\n## Where it differs\n")
	for _, part := range differences {
		fmt.Fprintf(&b, "\n### %s\n\n| | here | why |\n|---|---|---|\n", part.title)
		for _, d := range part.rows {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", d.what, d.here, d.why)
		}
	}
	b.WriteString("\n## Not there yet\n\n| | commands of Redis 7.0.15 |\n|---|---|\n")
	for _, a := range absent {
		var names []string
		for _, n := range strings.Fields(a.names) {
			names = append(names, "`"+strings.ToUpper(strings.ReplaceAll(n, "|", " "))+"`")
		}
		fmt.Fprintf(&b, "| %s | %s |\n", a.title, strings.Join(names, " "))
	}

	page := filepath.Join("..", "docs", "compatibility.md")
	if os.Getenv("HOLDFAST_UPDATE") != "" {
		require.NoError(t, os.WriteFile(page, []byte(b.String()), 0o644))
	}
	have, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(have), "run the test with HOLDFAST_UPDATE=1")
}

// What is there and what the page says is not there are together the commands of redis-server.
func TestAbsentCommands(t *testing.T) {
	have := map[string]bool{}
	eachRow(command.NewTable(), func(s *command.Spec) { have[s.FullName] = true })
	missing := map[string]bool{}
	for _, a := range absent {
		for _, n := range strings.Fields(a.names) {
			require.False(t, have[n], "%s is in the command table: take it from the page's list of what is not there", n)
			require.False(t, missing[n], n)
			missing[n] = true
		}
	}
	reply, _ := parseReply(t, dial(t, oracle(t)).do("COMMAND", "LIST"))
	theirs := map[string]bool{}
	var forgotten []string
	for _, item := range reply.items {
		theirs[item.text] = true
		container, _, _ := strings.Cut(item.text, "|")
		if !have[item.text] && !missing[item.text] && !missing[container] {
			forgotten = append(forgotten, item.text)
		}
	}
	slices.Sort(forgotten)
	require.Empty(t, forgotten, "commands of redis-server that neither the table nor the page knows")
	for n := range missing {
		require.True(t, theirs[n], "redis-server has no %s", n)
	}
}
