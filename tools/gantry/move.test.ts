// Images in and out again: send by C-STORE and STOW, find, get, export, delete and trash, against a real server and against odd receivers.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { listen } from '#dimse/acceptor.ts';
import { negotiate } from '#dimse/negotiate.ts';
import type { Association, Incoming } from '#dimse/types.ts';
import { uidFor } from '../demo/part10.ts';
import { freePort, type GantryServer, startServer } from '../peers/server.ts';
import { fileName } from './dicomweb.ts';
import { folder, instance, run, SECRET } from './run.testing.ts';

interface Summary {
  stored: number;
  noDicom: number;
  dicomdir: number;
  refused: number;
  failed: number;
  refusals: { label: string; code: string; says: string }[];
  failures: { label: string; code: string; says: string }[];
}
const counts = ({ stored, noDicom, dicomdir, refused, failed }: Summary) => [
  stored,
  noDicom,
  dicomdir,
  refused,
  failed,
];

const STUDY = uidFor('cli/study/move');
const SERIES = uidFor('cli/series/move');

describe('images in and out', { timeout: 240_000 }, () => {
  let server: GantryServer;
  let env: Record<string, string>;
  const files = Object.fromEntries(
    ['1', '2', '3'].map((n) => [`${n}.dcm`, instance(`move/${n}`, { '00200013': ['IS', n] })]),
  );
  const root = folder({
    ...files,
    'notes.txt': 'no DICOM, '.repeat(40),
    DICOMDIR: instance('move/dir', { '00080016': ['UI', '1.2.840.10008.1.3.10'] }),
    'palette.dcm': instance('move/palette', { '00080016': ['UI', '1.2.840.10008.5.1.4.39.1'] }),
    'nostudy.dcm': instance('move/nostudy', { '0020000d': ['UI', ''] }),
    'nouid.dcm': instance('move/nouid', { '00080018': ['UI', ''] }),
  });
  before(async () => {
    server = await startServer({ env: { GANTRY_DIMSE_ACCEPT_UNKNOWN: 'true' } });
    env = { GANTRY_HTTP_PORT: String(server.httpPort), GANTRY_DIMSE_PORT: String(server.dimsePort) };
  });
  after(() => server?.close());

  test('send by C-STORE: what is taken, skipped, and refused by whom and why', async () => {
    const { code, json, out, err } = await run(['send', '--json', root], env);
    const summary = json<Summary>();
    assert.deepEqual(counts(summary), [3, 1, 1, 3, 0]);
    assert.equal(code, 1);
    const byName = new Map(summary.refusals.map((one) => [one.label.slice(root.length + 1), one]));
    assert.equal(byName.get('palette.dcm')!.code, 'presentation-context');
    assert.equal(byName.get('nostudy.dcm')!.code, 'A900');
    assert.match(byName.get('nostudy.dcm')!.says, /Study Instance UID missing/);
    assert.match(byName.get('nouid.dcm')!.says, /C-STORE cannot name it/);
    assert.ok(!`${out}${err}`.includes(SECRET));
  });

  test('send --stow: the same files, the same fate', async () => {
    const { code, json } = await run(['send', '--stow', '--json', root], env);
    assert.deepEqual(counts(json<Summary>()), [3, 1, 1, 3, 0]);
    assert.equal(code, 1);
  });

  test('send wants files and folders, and a receiver that is there', async () => {
    assert.equal((await run(['send', join(root, '1.dcm')], env)).code, 0);
    const nobody = await run(['send', root, '--port', String(await freePort())], env);
    assert.equal(nobody.code, 3);
    assert.match(nobody.err, /ECONNREFUSED/);
    const stranger = await run(['send', root, '--called', 'SOMEONE'], env);
    assert.equal(stranger.code, 3);
    assert.match(stranger.err, /association/);
  });

  test('more than 128 kinds of instance need a second association, and all arrive', async () => {
    const study = uidFor('cli/many');
    const many = folder(
      Object.fromEntries(
        Array.from({ length: 140 }, (_, i) => [
          `${i}.dcm`,
          instance(`many/${i}`, {
            '00080016': ['UI', `1.2.826.0.1.3680043.2.1545.${i + 1}`],
            '0020000d': ['UI', study],
          }),
        ]),
      ),
    );
    const { code, json, out } = await run(['send', '--json', many], env);
    assert.equal(code, 0, out);
    assert.equal(json<Summary>().stored, 140);
    // What came over DIMSE shows to HTTP a moment later: the index is awaited by those who wrote.
    const query = ['find', '--json', '--level', 'instance', '--limit', '1000', `StudyInstanceUID=${study}`];
    let found = 0;
    for (const until = Date.now() + 10_000; found < 140 && Date.now() < until; )
      found = (await run(query, env)).json<unknown[]>().length;
    assert.equal(found, 140);
  });

  test('a receiver out of resources is asked again; one that hangs up gets the file over a new association', async () => {
    const seen: string[] = [];
    let associations = 0;
    const odd = await receiver(
      async (association, incoming) => {
        const uid = incoming.command.affectedSopInstanceUid!;
        await incoming.whole(2 ** 20);
        seen.push(uid);
        if (seen.length === 1) await association.respond(incoming, { status: 0xa700 });
        else if (seen.length === 2) association.abort();
        else await association.respond(incoming, { status: seen.length === 3 ? 0xb000 : 0 });
      },
      () => associations++,
    );
    try {
      const three = folder(files);
      const { code, json, out } = await run(
        ['send', '--json', '--associations', '1', '--port', String(odd.port), three],
        env,
      );
      assert.equal(code, 0, out);
      assert.deepEqual(counts(json<Summary>()), [3, 0, 0, 0, 0]);
      assert.equal(seen.length, 5);
      assert.equal(associations, 3); // the first asks whether anybody is there
    } finally {
      await odd.close(0);
    }
  });

  test('a receiver that takes one association at a time gets everything over that one', async () => {
    let open = 0;
    const narrow = await listen({
      host: '127.0.0.1',
      port: 0,
      onRequest: (rq) =>
        open > 0
          ? { accept: false, result: 2, source: 3, reason: 2 } // local limit exceeded (PS3.8 Table 9-21)
          : negotiate(rq, { abstractSyntax: () => true, transferSyntax: () => true }),
      onAssociation: async (association) => {
        open++;
        for await (const incoming of association.messages()) {
          await incoming.data?.discard();
          await association.respond(incoming, { status: 0 });
        }
        open--;
      },
    });
    try {
      const many = folder(
        Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`${i}.dcm`, instance(`narrow/${i}`)])),
      );
      const { code, json, out } = await run(['send', '--json', '--port', String(narrow.port), many], env);
      assert.equal(code, 0, out);
      assert.equal(json<Summary>().stored, 20);
    } finally {
      await narrow.close(0);
    }
  });

  test('a receiver that refuses every file: its status and words', async () => {
    const odd = await receiver(async (association, incoming) => {
      await association.respond(incoming, { status: 0xc123, errorComment: 'not today' });
    });
    try {
      const { code, json } = await run(['send', '--json', '--port', String(odd.port), folder(files)], env);
      assert.equal(code, 1);
      assert.deepEqual(
        new Set(json<Summary>().refusals.map(({ code, says }) => `${code} ${says}`)),
        new Set(['C123 not today']),
      );
    } finally {
      await odd.close(0);
    }
  });

  test('find: a table for people, DICOM JSON for scripts, more than the limit is said', async () => {
    const people = await run(['find', `PatientName=${SECRET}*`, 'PatientID=ID-move'], env);
    assert.equal(people.code, 0);
    const [title, row] = people.out.split('\n');
    assert.match(title!, /^DATE +MODALITY +PATIENT ID +PATIENT +INSTANCES +STUDY$/);
    assert.match(row!, new RegExp(`^20240102 +CT +ID-move +${SECRET}\\^\\w+ +3 +${STUDY}$`));
    const scripts = await run(
      [
        'find',
        '--json',
        '--level',
        'instance',
        `StudyInstanceUID=${STUDY}`,
        '--order',
        'InstanceNumber',
        '--descending',
      ],
      env,
    );
    assert.deepEqual(
      scripts.json<Record<string, { Value: number[] }>[]>().map((one) => one['00200013']!.Value[0]),
      [3, 2, 1],
    );
    const cut = await run(['find', '--level', 'instance', '--limit', '2', `StudyInstanceUID=${STUDY}`], env);
    assert.match(cut.err, /more than 2/);
    const all = await run(['find', '--json', '--all', '--level', 'instance', `StudyInstanceUID=${STUDY}`], env);
    assert.equal(all.out.trim().split('\n').length, 3);
    const none = await run(['find', 'PatientID=nobody'], env);
    assert.deepEqual([none.code, none.out], [0, '']);
    const more = await run(
      ['find', `StudyInstanceUID=${STUDY}`, '--include', 'StudyID,InstitutionName', '--limit', '1'],
      env,
    );
    assert.equal(more.code, 0);
  });

  test('get: the stored bytes, by study, series and instance', async () => {
    const stow = await run(
      ['send', '--stow', '--json', folder(Object.fromEntries([['x.dcm', instance('exact/1')]]))],
      env,
    );
    assert.equal(stow.code, 0);
    const target = {
      study: uidFor('cli/study/exact'),
      series: uidFor('cli/series/exact'),
      instance: uidFor('cli/exact/1'),
    };
    const to = mkdtempSync(join(tmpdir(), 'gantry-get-'));
    const got = await run(['get', target.study, '--to', to, '--json'], env);
    assert.deepEqual([got.code, got.json<{ instances: number }>().instances], [0, 1]);
    assert.ok(readFileSync(join(to, fileName(target))).equals(instance('exact/1')));
    for (const args of [[STUDY], [STUDY, SERIES], [STUDY, SERIES, uidFor('cli/move/2')]]) {
      const into = mkdtempSync(join(tmpdir(), 'gantry-get-'));
      assert.equal((await run(['get', ...args, '--to', into], env)).code, 0);
      const names = readdirSync(into, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.dcm'));
      assert.equal(names.length, args.length === 3 ? 1 : 3);
    }
    assert.equal((await run(['get', STUDY, '1.2.3', '--to', to], env)).code, 1);
  });

  test('a hostile UID names no path', () => {
    const name = fileName({ study: '../../etc', series: '..', instance: 'a/b\\c' });
    assert.match(name, /^[0-9a-f]{40}\/[0-9a-f]{40}\/[0-9a-f]{40}\.dcm$/);
  });

  test('export: folder, tar and pipe hold the same, and go in again', async () => {
    const to = mkdtempSync(join(tmpdir(), 'gantry-export-'));
    const tar = join(to, 'study.tar');
    assert.equal((await run(['export', STUDY, '--to', tar], env)).code, 0);
    assert.deepEqual(readdirSync(to), ['study.tar']); // nothing half-written is left
    const pipe = await run(['export', STUDY, '--to', '-'], env);
    assert.ok(pipe.bytes.equals(readFileSync(tar)));
    const unpacked = join(to, 'unpacked');
    execFileSync('mkdir', [unpacked]);
    execFileSync('tar', ['xf', tar, '-C', unpacked]);
    assert.equal((await run(['export', STUDY, '--to', join(to, 'folder')], env)).code, 0);
    execFileSync('diff', ['-r', unpacked, join(to, 'folder')]);
    const all = await run(['export', '--all', '--to', join(to, 'all.tar'), '--json'], env);
    assert.equal(all.json<{ instances: number }>().instances, 3 + 140 + 1);
    const again = await run(['import', '--json', tar], env);
    assert.deepEqual([again.code, again.json<Summary>().stored], [0, 3]);
    const missing = await run(['export', '1.2.3', '--to', join(to, 'none.tar')], env);
    assert.equal(missing.code, 1);
    assert.equal(existsSync(join(to, 'none.tar')) || existsSync(join(to, 'none.tar.part')), false);
  });

  test('delete, trash ls, restore, hold, purge', async () => {
    const shown = async () =>
      (await run(['find', '--json', '--level', 'instance', `StudyInstanceUID=${STUDY}`], env)).json<unknown[]>().length;
    const one = uidFor('cli/move/1');
    assert.equal((await run(['delete', STUDY, '--series', SERIES, '--instance', one, '--yes'], env)).code, 0);
    assert.equal(await shown(), 2);
    assert.equal((await run(['delete', STUDY, '--yes', '--reason', 'a test'], env)).code, 0);
    assert.equal(await shown(), 0);
    const list = await run(['trash', 'ls'], env);
    assert.match(list.out, new RegExp(`^${STUDY} +\\d`, 'm'));
    assert.match(list.out, /a test/);
    const back = await run(['trash', 'restore', STUDY, '--series', SERIES, '--instance', one, '--json'], env);
    assert.ok(back.json<{ restored: number }>().restored >= 1);
    assert.equal(await shown(), 1);
    assert.equal((await run(['trash', 'restore', STUDY], env)).code, 0);
    assert.equal(await shown(), 3);
    assert.equal((await run(['delete', STUDY, '--yes', '--json'], env)).json<{ deleted: boolean }>().deleted, true);
    assert.match((await run(['hold', STUDY, '--reason', 'inquiry'], env)).out, /is on hold/);
    assert.match((await run(['trash', 'ls'], env)).out, /yes/);
    const refused = await run(['trash', 'purge', STUDY, '--yes'], env);
    assert.equal(refused.code, 1);
    assert.match(refused.err, /on hold/);
    assert.equal((await run(['hold', STUDY, '--lift', '--json'], env)).json<{ onHold: boolean }>().onHold, false);
    assert.match((await run(['trash', 'purge', STUDY, '--yes'], env)).out, /purged/);
    assert.equal((await run(['trash', 'restore', STUDY], env)).code, 1);
  });
});

/** A storage SCP that does as it is told. */
async function receiver(
  onStore: (association: Association, incoming: Incoming) => Promise<void>,
  onAssociation: () => void = () => undefined,
) {
  return listen({
    host: '127.0.0.1',
    port: 0,
    onRequest: (rq) => negotiate(rq, { abstractSyntax: () => true, transferSyntax: () => true }),
    onAssociation: async (association) => {
      onAssociation();
      for await (const incoming of association.messages()) await onStore(association, incoming);
    },
  });
}
