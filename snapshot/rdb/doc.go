// Package rdb is the value and file codec of Redis's RDB format.
//
// A value is a type byte and a payload. We write the plain types that every Redis since 5.0 and every Valkey loads
// (STRING 0, LIST 1, SET 2, HASH 4, ZSET_2 5, version 9) and read every encoding of Redis 2.8 … 7.4 and Valkey 8. A hash whose fields
// expire has no such form: it is a HASH_METADATA 24, and what it is in has version 12, which Redis loads from 7.4 on.
//
//	value    type byte, payload
//	DUMP     type byte, payload, version (2 bytes LE), CRC64 of all before (8 bytes LE)
//	file     "REDIS" + 4 digits, records of opcode byte + body, opcode 255, CRC64 of all before (8 bytes LE, 0 = unchecked)
//	length   00xxxxxx | 01xxxxxx + 1 byte BE | 0x80 + 4 bytes BE | 0x81 + 8 bytes BE | 11xxxxxx = encoded string
//	payload  LIST, SET: length n, n strings; HASH: n pairs; ZSET_2: n × (string, 8-byte LE IEEE double)
//	         HASH_METADATA: earliest expiry (8 bytes LE, unix ms), n × (length: expiry - earliest + 1, 0 = none; field, value)
//
// Input is foreign: nothing is allocated by an announced size, no input panics, and the integrity of the packed
// encodings (ziplist, listpack, intset, zipmap) is checked as deeply as Redis does under sanitize-dump-payload yes.
//
// The package is pure: it starts no goroutine and reads no clock. A FileReader or FileWriter belongs to one goroutine.
package rdb
