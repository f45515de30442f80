// `helm test`: a C-ECHO at the DIMSE door (PS3.7 §9.1.5), /readyz at the HTTP door, both through the release's Service. No imports
// but node's own: it runs in the image as it is.
import { once } from 'node:events';
import { connect } from 'node:net';

const { HOST = '', HTTP_PORT = '80', DIMSE_PORT = '11112', CALLED = 'GANTRY', CALLING = 'HELM_TEST' } = process.env;
const PATIENCE_MS = 30_000;

const IMPLICIT = '1.2.840.10008.1.2';
const VERIFICATION = '1.2.840.10008.1.1';

/** PS3.8 §9.3: an item (type, reserved, 16-bit length) and a PDU (type, reserved, 32-bit length). */
function item(type: number, ...parts: (Buffer | string)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));
  const head = Buffer.from([type, 0, 0, 0]);
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([head, body]);
}
function pdu(type: number, body: Buffer): Buffer {
  const head = Buffer.from([type, 0, 0, 0, 0, 0]);
  head.writeUInt32BE(body.length, 2);
  return Buffer.concat([head, body]);
}

function associateRequest(): Buffer {
  const maximum = Buffer.alloc(4);
  maximum.writeUInt32BE(16_384);
  return pdu(
    0x01,
    Buffer.concat([
      Buffer.from([0, 1, 0, 0]),
      Buffer.from(CALLED.padEnd(16), 'latin1'),
      Buffer.from(CALLING.padEnd(16), 'latin1'),
      Buffer.alloc(32),
      item(0x10, '1.2.840.10008.3.1.1.1'),
      item(0x20, Buffer.from([1, 0, 0, 0]), item(0x30, VERIFICATION), item(0x40, IMPLICIT)),
      item(0x50, item(0x51, maximum), item(0x52, '2.25.310000000000000000000000000000000001')),
    ]),
  );
}

/** A command set is Implicit VR Little Endian (PS3.7 §6.3.1). */
function element(element: number, value: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt16LE(element, 2);
  head.writeUInt32LE(value.length, 4);
  return Buffer.concat([head, value]);
}
const short = (value: number): Buffer => Buffer.from([value & 255, value >> 8]);

function echoRequest(): Buffer {
  const uid = Buffer.from(`${VERIFICATION}\0`.slice(0, VERIFICATION.length + (VERIFICATION.length % 2)), 'latin1');
  const rest = [element(0x0002, uid), element(0x0100, short(0x0030)), element(0x0110, short(1)), element(0x0800, short(0x0101))];
  const length = Buffer.alloc(4);
  length.writeUInt32LE(rest.reduce((sum, { length: size }) => sum + size, 0));
  const command = Buffer.concat([element(0x0000, length), ...rest]);
  const pdv = Buffer.alloc(6);
  pdv.writeUInt32BE(command.length + 2);
  pdv[4] = 1; // presentation context
  pdv[5] = 3; // a command, and its last fragment
  return pdu(0x04, Buffer.concat([pdv, command]));
}

/** Status (0000,0900) of the C-ECHO-RSP. */
function statusOf(body: Buffer): number {
  for (let at = 6; at + 8 <= body.length; at += 8 + body.readUInt32LE(at + 4))
    if (body.readUInt32LE(at) === 0x0900_0000) return body.readUInt16LE(at + 8);
  throw new Error('the C-ECHO-RSP has no status');
}

async function echo(): Promise<void> {
  const socket = connect(Number(DIMSE_PORT), HOST);
  socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error('no answer in time')));
  await once(socket, 'connect');
  let received = Buffer.alloc(0);
  const next = async (): Promise<[number, Buffer]> => {
    for (;;) {
      if (received.length >= 6 && received.length >= 6 + received.readUInt32BE(2)) {
        const end = 6 + received.readUInt32BE(2);
        const one: [number, Buffer] = [received[0]!, received.subarray(6, end)];
        received = received.subarray(end);
        return one;
      }
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      received = Buffer.concat([received, chunk]);
    }
  };
  socket.write(associateRequest());
  const [answer, body] = await next();
  if (answer === 0x03)
    throw new Error(
      `A-ASSOCIATE-RJ (result ${body[1]}, source ${body[2]}, reason ${body[3]}): is ${CALLING} among peers? (test.callingAeTitle)`,
    );
  if (answer !== 0x02) throw new Error(`PDU type ${answer} instead of A-ASSOCIATE-AC`);
  socket.write(echoRequest());
  const [type, data] = await next();
  if (type !== 0x04) throw new Error(`PDU type ${type} instead of a C-ECHO-RSP`);
  const status = statusOf(data);
  if (status !== 0) throw new Error(`C-ECHO status ${status.toString(16)}`);
  socket.write(pdu(0x05, Buffer.alloc(4)));
  await next();
  socket.destroy();
  console.log(`C-ECHO ${CALLING} → ${CALLED} at ${HOST}:${DIMSE_PORT}: 0000`);
}

async function ready(): Promise<void> {
  const url = `http://${HOST}:${HTTP_PORT}/readyz`;
  const answer = await fetch(url, { signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${(await answer.text()).slice(0, 500)}`);
  console.log(`${url}: ${answer.status}`);
}

await echo();
await ready();
