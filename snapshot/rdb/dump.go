package rdb

import "encoding/binary"

// dumpTrailer is the size in bytes of a DUMP payload's end: version and CRC64.
const dumpTrailer = 2 + 8

// AppendDump appends the DUMP payload of value (type byte and payload): value, version, CRC64. The version is the lowest that holds
// the value.
func AppendDump(dst []byte, value []byte) []byte {
	start := len(dst)
	dst = append(dst, value...)
	version := uint16(Version)
	if len(value) > 0 && Type(value[0]) == TypeHashMetadata {
		version = FieldTTLVersion
	}
	dst = binary.LittleEndian.AppendUint16(dst, version)
	return binary.LittleEndian.AppendUint64(dst, uint64(CRC64(0).Update(dst[start:])))
}

// VerifyDump checks a DUMP payload as Redis's verifyDumpPayload does and returns the type and the bytes after the type
// byte (aliasing payload). ErrVersion, ErrChecksum and ErrTruncated are what clients see as
// "DUMP payload version or checksum are wrong"; any other error is "Bad data format". Unlike in a file, a checksum of 0
// does not mean unchecked. Redis ignores bytes behind the value, so what DecodeValue leaves over is no error.
func VerifyDump(payload []byte) (typ Type, value []byte, err error) {
	if len(payload) < dumpTrailer {
		return 0, nil, ErrTruncated
	}
	body, trailer := payload[:len(payload)-dumpTrailer], payload[len(payload)-dumpTrailer:]
	if binary.LittleEndian.Uint16(trailer) > MaxVersion {
		return 0, nil, ErrVersion
	}
	if uint64(CRC64(0).Update(payload[:len(payload)-8])) != binary.LittleEndian.Uint64(trailer[2:]) {
		return 0, nil, ErrChecksum
	}
	if len(body) == 0 {
		return 0, nil, corrupt("payload without a value")
	}
	return Type(body[0]), body[1:], nil
}
