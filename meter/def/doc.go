// Package def holds the device definitions: one YAML file per kind of meter, with its own test vectors, and the pure
// code that follows them. No I/O happens here: registers come from a [ReadRegisters] function, messages from the caller.
//
// A definition is data, not a program: no expressions, no templates. It says where the points are — import, export,
// power, and of a battery the state of charge —, how they are encoded, what "not implemented" looks like, how finely the
// counters count and where they begin anew, how the device names itself, and who signs. A directory may add to or
// override what is built in, by id.
//
// Files are decoded strictly. What is wrong with one is a [Problems]: every mistake with file, line, column, key and
// reason. A file of another [SchemaVersion] is refused. The size and the depth of a file are bounded before it is parsed,
// and nothing in it can refer to another part of it. Finding one built-in definition parses that one only.
//
// Each value comes with its [Origin]: the registers, the model and point, or the line that it was made of.
//
// A definition may also say how a device is led: the part [Control] names the registers of set points, of the device's
// revert timer and of its state, and the writes of each mode in their order.
//
// Numbers: counters come out as whole Wh ≥ 0, power as whole W, import positive. Decimal text and scaled integers are
// converted exactly and a part of a Wh is cut off, as a counter does. A float32 is itself the nearest neighbour of what
// the device counted, so it is rounded to the nearest Wh. Unknown is nil.
package def
