/** Independent implementations on the other end: DCMTK, pynetdicom, dcmjs-dimse. They are right, until the standard says otherwise. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { type OpenDataRow, openData, pythonWithPynetdicom, requirePeer, without } from '../../../tools/setup/peers.ts';
import { COMMAND } from './command.ts';
import { CT, FIND, GET, IMPLICIT, VERIFICATION } from './parrot.fixture.ts';
import { connect } from './requestor.ts';
import { answerAll, startScp, toScp } from './scp.fixture.ts';
import { echo, find, get, move, nAction, store } from './scu.ts';
import type { Association } from './types.ts';

const run = promisify(execFile);
const COMMITMENT = '1.2.840.10008.1.20.1';
const children = new Set<ReturnType<typeof spawn>>();
const folders: string[] = [];
after(async () => {
  for (const child of children) child.kill('SIGKILL');
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'gantry-dimse-'));
  folders.push(path);
  return path;
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** DCMTK waits 40 ms for Nagle's algorithm unless told otherwise. */
const ENV = { ...process.env, TCP_NODELAY: '1' };
const dcmtk = (tool: string, ...args: string[]) => run(requirePeer(tool), args, { env: ENV, maxBuffer: 1 << 26 });

/** Starts a server and waits until it takes connections. */
async function serve(command: string, args: string[], port: number, cwd?: string): Promise<{ stop(): Promise<void> }> {
  const child = spawn(command, args, { env: ENV, cwd, stdio: 'ignore' });
  children.add(child);
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  for (let open = false; !open; ) {
    assert.equal(child.exitCode, null, `${command} exited`);
    open = await new Promise<boolean>((resolve) => {
      const socket = net.connect({ host: '127.0.0.1', port });
      socket.once('connect', () => socket.destroy() && resolve(true));
      socket.once('error', () => setTimeout(resolve, 20, false));
    });
  }
  return {
    stop: async () => {
      child.kill('SIGKILL');
      await exited;
      children.delete(child);
    },
  };
}

interface Instance {
  row: OpenDataRow;
  /** What follows group 0002: the data set as it lies in the file. */
  dataSet: Buffer;
}

function dataSetOf(file: Buffer): Buffer {
  assert.equal(file.toString('latin1', 128, 132), 'DICM');
  assert.equal(file.readUInt32LE(132), 2); // (0002,0000)
  return file.subarray(144 + file.readUInt32LE(140));
}

/** One file of each transfer syntax that DCMTK can carry, and has a proper meta. */
async function samples(): Promise<Instance[]> {
  const { rows } = await openData();
  const chosen = new Map<string, Instance>();
  for (const row of rows) {
    if (row.class !== 'storable' || chosen.has(row.transferSyntaxUid) || row.size > 20e6) continue;
    if (!/^1\.2\.840\.10008\.1\.2(\.[12]|\.4\.(50|51|70|80|90|91)|\.5)?$/.test(row.transferSyntaxUid)) continue;
    const file = await readFile(row.path);
    if (file.toString('latin1', 128, 132) !== 'DICM' || file.readUInt32LE(132) !== 2) continue;
    chosen.set(row.transferSyntaxUid, { row, dataSet: dataSetOf(file) });
  }
  assert.ok(chosen.size >= 2);
  return [...chosen.values()];
}

/** Explicit VR Little Endian identifier of a query: enough for peers that parse it. */
function identifier(level: string): Buffer {
  const element = (group: number, id: number, vr: string, value: string) => {
    const text = value.length % 2 === 0 ? value : `${value} `;
    const head = Buffer.alloc(8);
    head.writeUInt16LE(group);
    head.writeUInt16LE(id, 2);
    head.write(vr, 4, 'latin1');
    head.writeUInt16LE(text.length, 6);
    return Buffer.concat([head, Buffer.from(text, 'latin1')]);
  };
  return Buffer.concat([element(8, 0x52, 'CS', level), element(0x20, 0x0d, 'UI', '')]);
}

const peerless = without('storescu', 'storescp', 'echoscu', 'findscu', 'getscu', 'movescu', 'dcmqrscp');

test('echoscu: sizes, repeats, a release and an abort', { skip: peerless }, async () => {
  const scp = await startScp();
  await dcmtk('echoscu', '--repeat', '20', '127.0.0.1', String(scp.port));
  assert.equal((await scp.nextClosed()).kind, 'released');
  await dcmtk(
    'echoscu',
    '--max-pdu',
    '4096',
    '--propose-ts',
    '7',
    '--propose-pc',
    '128',
    '127.0.0.1',
    String(scp.port),
  );
  assert.equal((await scp.nextClosed()).kind, 'released');
  await dcmtk('echoscu', '--abort', '127.0.0.1', String(scp.port));
  assert.equal((await scp.nextClosed()).kind, 'aborted-by-peer');
  await scp.acceptor.close(0);
});

test('storescu: the bytes that arrive are the bytes that storescp gets from it', { skip: peerless }, async () => {
  const received = new Map<string, Buffer>();
  const scp = await startScp(async (association) => {
    for await (const message of association.messages()) {
      received.set(message.command.affectedSopInstanceUid!, await message.whole(1e9));
      await association.respond(message, { status: 0 });
    }
  });
  const port = await freePort();
  const theirs = await folder();
  const storescp = await serve(requirePeer('storescp'), ['+B', '+xa', '-od', theirs, String(port)], port);
  const instances = await samples();
  for (const { row } of instances) {
    for (const to of [scp.port, port]) {
      await dcmtk('storescu', '-xf', await proposal(row), 'Test', '127.0.0.1', String(to), row.path);
    }
  }
  await storescp.stop();
  const files = await readdir(theirs);
  assert.equal(received.size, instances.length);
  for (const { row } of instances) {
    const name = files.find((file) => file.endsWith(`.${row.sopInstanceUid}`))!;
    assert.ok(
      dataSetOf(await readFile(join(theirs, name))).equals(received.get(row.sopInstanceUid)!),
      row.transferSyntaxUid,
    );
  }
  await scp.acceptor.close(0);
});

/** A DCMTK association profile that proposes just this class and syntax. */
async function proposal(row: OpenDataRow): Promise<string> {
  const path = join(await folder(), 'proposal.cfg');
  await writeFile(
    path,
    `[[TransferSyntaxes]]\n[TS]\nTransferSyntax1 = ${row.transferSyntaxUid}\n[[PresentationContexts]]\n[PC]\n` +
      `PresentationContext1 = ${row.sopClassUid}\\TS\n[[Profiles]]\n[Test]\nPresentationContexts = PC\n`,
  );
  return path;
}

test('to storescp: what it keeps is what we sent, whatever its maximum PDU', { skip: peerless }, async () => {
  const instances = await samples();
  for (const max of ['4096', '131072']) {
    const port = await freePort();
    const theirs = await folder();
    const storescp = await serve(
      requirePeer('storescp'),
      ['+B', '+xa', '--max-pdu', max, '-od', theirs, String(port)],
      port,
    );
    const contexts = instances.map(({ row }) => ({
      abstractSyntax: row.sopClassUid,
      transferSyntaxes: [row.transferSyntaxUid],
    }));
    const association = await connect(
      toScp(port, { contexts: [{ abstractSyntax: VERIFICATION, transferSyntaxes: [IMPLICIT] }, ...contexts] }),
    );
    assert.equal((await echo(association)).status, 0);
    for (const { row, dataSet } of instances) {
      const context = association.findContext(row.sopClassUid, row.transferSyntaxUid);
      assert.ok(context, `${row.transferSyntaxUid} was accepted`);
      const request = { contextId: context.id, sopClassUid: row.sopClassUid, sopInstanceUid: row.sopInstanceUid };
      assert.equal((await store(association, { ...request, data: dataSet })).status, 0);
    }
    await association.release();
    assert.equal((await association.closed).kind, 'released');
    const files = await readdir(theirs);
    for (const { row, dataSet } of instances) {
      const name = files.find((file) => file.endsWith(`.${row.sopInstanceUid}`))!;
      assert.ok(dataSetOf(await readFile(join(theirs, name))).equals(dataSet), row.transferSyntaxUid);
    }
    await storescp.stop();
  }
});

test('storescp refuses, aborts and hangs up: told as such', { skip: peerless }, async () => {
  for (const [args, code] of [
    [['--refuse'], 'rejected'],
    [['--abort-after'], 'aborted-by-peer'],
    [['--abort-during'], 'aborted-by-peer'],
  ] as const) {
    const port = await freePort();
    const storescp = await serve(requirePeer('storescp'), [...args, '--ignore', String(port)], port);
    const attempt = connect(toScp(port)).then(async (association) => {
      const contextId = association.findContext(CT)!.id;
      await store(association, { contextId, sopClassUid: CT, sopInstanceUid: '1.2', data: identifier('X') });
      await echo(association); // --abort-after aborts once the response is out
    });
    await assert.rejects(attempt, { code });
    await storescp.stop();
  }
});

/** Answers C-FIND with two matches, C-MOVE with counters, C-GET by sending `instances`. */
async function retrieving(association: Association, instances: Instance[]): Promise<void> {
  for await (const message of association.messages()) {
    const { commandField } = message.command;
    const query = await message.whole(1e6);
    if (commandField === COMMAND.C_FIND_RQ) {
      for (let n = 0; n < 2; n++) await association.respond(message, { status: 0xff00 }, query);
      await association.respond(message, { status: 0 });
    } else if (commandField === COMMAND.C_GET_RQ || commandField === COMMAND.C_MOVE_RQ) {
      let completed = 0;
      for (const { row, dataSet } of instances) {
        if (commandField === COMMAND.C_GET_RQ) {
          const context = association.findContext(row.sopClassUid, row.transferSyntaxUid, 'scu');
          assert.ok(context, `${row.sopClassUid} ${row.transferSyntaxUid}`);
          const request = { contextId: context.id, sopClassUid: row.sopClassUid, sopInstanceUid: row.sopInstanceUid };
          assert.equal((await store(association, { ...request, data: dataSet })).status, 0);
        }
        completed++;
        const counters = { remainingSubOperations: instances.length - completed, completedSubOperations: completed };
        await association.respond(message, {
          status: 0xff00,
          ...counters,
          failedSubOperations: 0,
          warningSubOperations: 0,
        });
      }
      await association.respond(message, {
        status: 0,
        completedSubOperations: completed,
        failedSubOperations: 0,
        warningSubOperations: 0,
      });
    } else await association.respond(message, { status: 0 });
  }
}

test('findscu, movescu, getscu', { skip: peerless }, async () => {
  const instances = (await samples()).filter(({ row }) => row.transferSyntaxUid === '1.2.840.10008.1.2.1');
  const scp = await startScp((association) => retrieving(association, instances));
  const keys = ['-k', '0008,0052=STUDY', '-k', '0020,000d=1.2.3'];
  const target = ['127.0.0.1', String(scp.port)];
  const theirs = await folder();
  await dcmtk('findscu', '-S', ...keys, '-X', '-od', theirs, ...target);
  assert.equal((await readdir(theirs)).length, 2);
  assert.equal((await scp.nextClosed()).kind, 'released');
  await dcmtk('findscu', '-S', ...keys, '--cancel', '1', ...target);
  assert.equal((await scp.nextClosed()).kind, 'released');
  await dcmtk('movescu', '-S', ...keys, '-aem', 'DEST', ...target);
  assert.equal((await scp.nextClosed()).kind, 'released');
  const got = await folder();
  await dcmtk('getscu', '-S', ...keys, '+B', '-od', got, ...target);
  assert.equal((await scp.nextClosed()).kind, 'released');
  const files = await readdir(got);
  assert.equal(files.length, instances.length);
  assert.ok(dataSetOf(await readFile(join(got, files[0]!))).equals(instances[0]!.dataSet));
  assert.deepEqual(scp.errors, []);
  await scp.acceptor.close(0);
});

const PYTHON_SCU = `
import sys
from pydicom.dataset import Dataset
from pynetdicom import AE, evt, build_role
from pynetdicom.sop_class import *
port = int(sys.argv[1])
ae = AE(ae_title='PYNETDICOM')
ae.maximum_pdu_size = int(sys.argv[2])
for uid in (Verification, StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet,
            StudyRootQueryRetrieveInformationModelMove, StorageCommitmentPushModel, CTImageStorage):
    ae.add_requested_context(uid, ['1.2.840.10008.1.2.1', '1.2.840.10008.1.2'])
got = []
def handle(event):
    got.append(len(event.request.DataSet.getvalue()))
    return 0x0000
assoc = ae.associate('127.0.0.1', port, evt_handlers=[(evt.EVT_C_STORE, handle)], ext_neg=[build_role(CTImageStorage, scu_role=True, scp_role=True)])
assert assoc.is_established
assert assoc.send_c_echo().Status == 0
ds = Dataset(); ds.QueryRetrieveLevel = 'STUDY'; ds.StudyInstanceUID = ''
found = [s.Status for s, d in assoc.send_c_find(ds, StudyRootQueryRetrieveInformationModelFind)]
assert found == [0xFF00, 0xFF00, 0], found
moved = [s.Status for s, d in assoc.send_c_move(ds, 'DEST', StudyRootQueryRetrieveInformationModelMove)]
assert moved[-1] == 0, moved
status = [s.Status for s, d in assoc.send_c_get(ds, StudyRootQueryRetrieveInformationModelGet)]
assert status[-1] == 0, status
ds = Dataset(); ds.TransactionUID = '1.2.3'
s, d = assoc.send_n_action(ds, 1, StorageCommitmentPushModel, '1.2.840.10008.1.20.1.1')
assert s.Status == 0, s
assoc.release()
assert assoc.is_released
print(','.join(map(str, got)))
`;

test('pynetdicom as SCU: all services on one association, any maximum PDU', {
  skip: without('pynetdicom'),
}, async () => {
  // (7FE0,0010) OB of 1,000,000 bytes, Explicit VR Little Endian.
  const big = Buffer.concat([Buffer.from('e07f10004f42000040420f00', 'hex'), Buffer.alloc(1_000_000)]);
  const row = { sopClassUid: CT, sopInstanceUid: '1.2.3', transferSyntaxUid: '1.2.840.10008.1.2.1' } as OpenDataRow;
  const scp = await startScp((association) => retrieving(association, [{ row, dataSet: big }]));
  const script = join(await folder(), 'scu.py');
  await writeFile(script, PYTHON_SCU);
  for (const max of ['0', '16382', '128']) {
    const { stdout } = await run(pythonWithPynetdicom(), [script, String(scp.port), max]);
    assert.equal(stdout.trim(), String(big.length));
    assert.equal((await scp.nextClosed()).kind, 'released');
  }
  assert.deepEqual(scp.errors, []);
  await scp.acceptor.close(0);
});

const PYTHON_SCP = `
import sys
from pydicom.dataset import Dataset
from pynetdicom import AE, evt, AllStoragePresentationContexts
from pynetdicom.sop_class import *
ae = AE(ae_title='SCP')
ae.maximum_pdu_size = int(sys.argv[2])
for uid in (Verification, StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet,
            StudyRootQueryRetrieveInformationModelMove, StorageCommitmentPushModel):
    ae.add_supported_context(uid, ['1.2.840.10008.1.2.1'])
ae.add_supported_context(CTImageStorage, ['1.2.840.10008.1.2.1'], scu_role=True, scp_role=True)
def instance(n):
    ds = Dataset(); ds.SOPClassUID = CTImageStorage; ds.SOPInstanceUID = '1.2.%d' % n; ds.PixelData = bytes(500000)
    ds['PixelData'].VR = 'OB'; ds.file_meta = Dataset(); ds.file_meta.TransferSyntaxUID = '1.2.840.10008.1.2.1'
    return ds
def find(event):
    n = 0
    while n < 1000:
        if event.is_cancelled:
            yield 0xFE00, None
            return
        ds = Dataset(); ds.QueryRetrieveLevel = 'STUDY'; ds.StudyInstanceUID = '1.2.%d' % n
        yield 0xFF00, ds
        n += 1
def get(event):
    yield 3
    for n in range(3):
        yield 0xFF00, instance(n)
def store(event):
    return 0x0000 if len(event.request.DataSet.getvalue()) == 1000008 else 0xA700
ae.start_server(('127.0.0.1', int(sys.argv[1])), evt_handlers=[(evt.EVT_C_FIND, find), (evt.EVT_C_GET, get), (evt.EVT_C_STORE, store),
    (evt.EVT_C_MOVE, lambda e: iter([(None, None)])), (evt.EVT_N_ACTION, lambda e: (0, None))])
`;

test('pynetdicom as SCP: echo, store, find with cancel, get, move, N-ACTION', {
  skip: without('pynetdicom'),
}, async () => {
  const script = join(await folder(), 'scp.py');
  await writeFile(script, PYTHON_SCP);
  for (const max of ['0', '16382']) {
    const port = await freePort();
    const scp = await serve(pythonWithPynetdicom(), [script, String(port), max], port);
    const contexts = [VERIFICATION, CT, FIND, GET, '1.2.840.10008.5.1.4.1.2.2.2', COMMITMENT].map((abstractSyntax) => ({
      abstractSyntax,
      transferSyntaxes: ['1.2.840.10008.1.2.1'],
    }));
    const roles = [{ sopClassUid: CT, scu: true, scp: true }];
    const association = await connect(toScp(port, { contexts, roles }));
    assert.equal((await echo(association)).status, 0);
    const contextId = association.findContext(CT, undefined, 'scp')!.id;
    const large = Buffer.alloc(1_000_008); // its length is what this SCP checks
    assert.equal(
      (await store(association, { contextId, sopClassUid: CT, sopInstanceUid: '1.2', data: large })).status,
      0,
    );
    let matches = 0;
    for await (const { status } of find(association, FIND, identifier('STUDY'))) {
      assert.equal(status, 0xff00);
      if (++matches === 5) break; // sends C-CANCEL-RQ
    }
    const lengths: number[] = [];
    const statuses: number[] = [];
    const onStore = async (incoming: { whole(max: number): Promise<Buffer> }) =>
      lengths.push((await incoming.whole(1e7)).length) && 0;
    for await (const { status } of get(association, GET, identifier('STUDY'), onStore)) statuses.push(status);
    assert.equal(statuses.at(-1), 0);
    assert.ok(lengths.length === 3 && lengths.every((length) => length > 500_000));
    let last: number | undefined;
    for await (const { status } of move(association, '1.2.840.10008.5.1.4.1.2.2.2', 'NOWHERE', identifier('STUDY')))
      last = status;
    assert.equal(last, 0xa801);
    const action = {
      sopClassUid: COMMITMENT,
      sopInstanceUid: '1.2.840.10008.1.20.1.1',
      actionTypeId: 1,
      data: identifier('X'),
    };
    assert.equal((await nAction(association, action)).status, 0);
    await association.release();
    assert.equal((await association.closed).kind, 'released');
    await scp.stop();
  }
});

test('dcmjs-dimse: C-ECHO both ways', async () => {
  const dimse = createRequire(import.meta.url)('dcmjs-dimse');
  dimse.log.setLevel('error');
  const scp = await startScp(answerAll);
  const client = new dimse.Client();
  const request = new dimse.requests.CEchoRequest();
  const answered = new Promise<number>((resolve) => {
    request.on('response', (response: { getStatus(): number }) => resolve(response.getStatus()));
  });
  client.addRequest(request);
  client.send('127.0.0.1', scp.port, 'SCU', 'SCP');
  assert.equal(await answered, 0);
  assert.equal((await scp.nextClosed()).kind, 'released');

  type Context = { setResult(result: number, syntax: string): void; getTransferSyntaxUids(): string[] };
  class Server extends dimse.Scp {
    associationRequested(
      this: InstanceType<typeof dimse.Scp>,
      association: { getPresentationContexts(): { context: Context }[] },
    ) {
      for (const { context } of association.getPresentationContexts()) {
        context.setResult(dimse.constants.PresentationContextResult.Accept, context.getTransferSyntaxUids()[0]);
      }
      this.sendAssociationAccept();
    }
    cEchoRequest(request: unknown, callback: (response: unknown) => void) {
      const response = dimse.responses.CEchoResponse.fromRequest(request);
      response.setStatus(dimse.constants.Status.Success);
      callback(response);
    }
    associationReleaseRequested(this: InstanceType<typeof dimse.Scp>) {
      this.sendAssociationReleaseResponse();
    }
  }
  const server = new dimse.Server(Server);
  const port = await freePort();
  server.listen(port);
  const association = await connect(
    toScp(port, { contexts: [{ abstractSyntax: VERIFICATION, transferSyntaxes: [IMPLICIT] }] }),
  );
  assert.equal((await echo(association)).status, 0);
  await association.release();
  server.close();
});
