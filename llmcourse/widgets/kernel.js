// weight @ x for eight-bit weights, sixteen at a time: what `multiply` in engine.js does,
// in WebAssembly with SIMD, for that is where the time goes. The program is assembled
// here, from the instructions' names. Without WebAssembly, `multiply` itself does it all.

const OPCODES = {
  loop: [0x03, 0x40], // a block without a value
  end: [0x0b],
  br_if: [0x0d],
  "local.get": [0x20],
  "local.set": [0x21],
  "local.tee": [0x22],
  "f32.store": [0x38, 2, 0], // aligned to 2 ** 2 bytes, offset 0
  "i32.const": [0x41],
  "f32.const_0": [0x43, 0, 0, 0, 0],
  "i32.lt_u": [0x49],
  "i32.add": [0x6a],
  "i32.sub": [0x6b],
  "i32.shl": [0x74],
  "f32.add": [0x92],
  "v128.load": [0xfd, 0x00, 0], // the offset follows
  "f32x4.splat": [0xfd, 0x13],
  "f32x4.extract_lane": [0xfd, 0x1f],
  "i16x8.extend_low_i8x16_s": [0xfd, 0x87, 0x01],
  "i16x8.extend_high_i8x16_s": [0xfd, 0x88, 0x01],
  "i32x4.extend_low_i16x8_s": [0xfd, 0xa7, 0x01],
  "i32x4.extend_high_i16x8_s": [0xfd, 0xa8, 0x01],
  "f32x4.add": [0xfd, 0xe4, 0x01],
  "f32x4.mul": [0xfd, 0xe6, 0x01],
  "f32x4.convert_i32x4_s": [0xfd, 0xfa, 0x01],
};
const LOCALS = ["weight", "x", "out", "rows", "columns", "at", "stop", "bytes", "sum"]; // 5 are given

// One row after the other; of a row, sums of four lanes.
const PROGRAM = `
  loop
    local.get x  local.tee at  local.get columns  i32.const 2  i32.shl  i32.add  local.set stop
    f32.const_0  f32x4.splat  local.set sum
    loop
      local.get weight  v128.load 0  local.set bytes
      local.get sum
      ${[0, 1, 2, 3].map((part) => `
        local.get bytes  i16x8.extend_${part < 2 ? "low" : "high"}_i8x16_s
        i32x4.extend_${part % 2 ? "high" : "low"}_i16x8_s  f32x4.convert_i32x4_s
        local.get at  v128.load ${16 * part}  f32x4.mul  ${part % 2 ? "f32x4.add" : ""}`).join("")}
      f32x4.add  f32x4.add  local.set sum
      local.get weight  i32.const 16  i32.add  local.set weight
      local.get at  i32.const 64  i32.add  local.tee at
      local.get stop  i32.lt_u  br_if 0
    end
    local.get out
    ${[0, 1, 2, 3].map((lane) => `local.get sum  f32x4.extract_lane ${lane}`).join("  ")}
    f32.add  f32.add  f32.add  f32.store
    local.get out  i32.const 4  i32.add  local.set out
    local.get rows  i32.const 1  i32.sub  local.tee rows  br_if 0
  end
  end`;

// A number below 128 is one byte; but a signed one of 64 would be read as negative, and
// needs a second.
const number = (n) => (n === 64 ? [0xc0, 0x00] : [n]);

function assemble(program) {
  const words = program.trim().split(/\s+/);
  return words.flatMap((word) => OPCODES[word] ?? (LOCALS.includes(word) ? [LOCALS.indexOf(word)] : number(Number(word))));
}

// A WebAssembly module: one function, `multiply`, over a memory that is given.
function moduleOf(code) {
  const section = (id, bytes) => [id, ...length(bytes), ...bytes];
  const length = ({ length: n }) => [(n & 127) | 128, n >> 7]; // two bytes, always
  const text = (string) => [string.length, ...utf8(string)];
  const [I32, V128] = [0x7f, 0x7b];
  const body = [2, 2, I32, 2, V128, ...code]; // two more locals of each
  return new Uint8Array([
    ...utf8("\0asm"), 1, 0, 0, 0,
    ...section(1, [1, 0x60, 5, I32, I32, I32, I32, I32, 0]), // a type: five numbers, no result
    ...section(2, [1, ...text("page"), ...text("memory"), 2, 0, 0]),
    ...section(3, [1, 0]), // a function of that type
    ...section(7, [1, ...text("multiply"), 0, 0]),
    ...section(10, [1, ...length(body), ...body]),
  ]);
}

const SCRATCH = 1 << 20; // bytes for x and the result

// Move eight-bit weights to where the program can read them; null if nothing can.
export function makeKernel(tensors) {
  const moved = Object.values(tensors).filter(({ numbers }) => numbers instanceof Int8Array);
  const size = moved.reduce((sum, { numbers }) => sum + numbers.length, SCRATCH);
  try {
    const memory = new WebAssembly.Memory({ initial: Math.ceil(size / 65536) });
    const program = new WebAssembly.Module(moduleOf(assemble(PROGRAM)));
    const { multiply } = new WebAssembly.Instance(program, { page: { memory } }).exports;
    const kernel = {
      fits: (x, rows) => x.length % 16 === 0 && 4 * (x.length + rows) <= SCRATCH,
      multiply(weight, x, rows) {
        new Float32Array(memory.buffer, 0, x.length).set(x);
        multiply(weight.byteOffset, 0, 4 * x.length, rows, x.length);
        return new Float32Array(memory.buffer, 4 * x.length, rows).slice();
      },
    };
    let at = SCRATCH;
    for (const tensor of moved) {
      const place = new Int8Array(memory.buffer, at, tensor.numbers.length);
      place.set(tensor.numbers);
      Object.assign(tensor, { numbers: place, kernel });
      at += place.length;
    }
    return kernel;
  } catch {
    return null;
  }
}
