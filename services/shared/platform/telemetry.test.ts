import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GantryError } from './errors.ts';
import { createLog, prettyLine } from './telemetry.ts';

function logged(run: (log: ReturnType<typeof createLog>) => void, pretty = false): string[] {
  const lines: string[] = [];
  run(createLog({ level: 'debug', pretty, destination: { write: (line) => lines.push(line) } }));
  return lines;
}
const one = (run: (log: ReturnType<typeof createLog>) => void): Record<string, never> => JSON.parse(logged(run)[0]);

describe('logs hold no patient data by construction', () => {
  const patient = 'Doe^John';

  test('text only under known keys, wherever it hides', () => {
    const line = logged((log) =>
      log.info(
        {
          patientName: patient,
          callingAeTitle: 'CT1',
          studyInstanceUid: '1.2.3',
          instances: 3,
          nested: { patientId: patient, address: '10.0.0.1' },
          list: [patient],
          uids: ['1.2'],
          body: Buffer.from(patient),
          query: { url: patient },
          how: () => patient,
          when: new Date(0),
          deep: { a: { b: { c: { d: { address: patient } } } } },
        } as object,
        'stored',
      ),
    )[0];
    assert.ok(!line.includes('Doe'), line);
    const { time, ...rest } = JSON.parse(line);
    assert.match(time, /^\d{4}-/);
    assert.deepEqual(rest, {
      level: 'info',
      msg: 'stored',
      patientName: '[refused]',
      callingAeTitle: 'CT1',
      studyInstanceUid: '1.2.3',
      instances: 3,
      nested: { patientId: '[refused]', address: '10.0.0.1' },
      list: ['[refused]'],
      uids: ['1.2'],
      body: '[refused]',
      query: { url: '[refused]' },
      how: '[refused]',
      when: '1970-01-01T00:00:00.000Z',
      deep: { a: { b: { c: { d: '[refused]' } } } },
    });
  });

  test('of other errors the class, the system code and the frames; never the message, not even as the line’s own', () => {
    class ParseError extends Error {}
    const error = Object.assign(
      new ParseError(`bad value ${patient}\n    at ${patient}`, { cause: new Error(patient) }),
      { code: 'ENOSPC', syscall: 'write', path: `/x/${patient}` },
    );
    for (const write of [
      (log: ReturnType<typeof createLog>) => log.error(error),
      (log: ReturnType<typeof createLog>) => log.error({ err: error }),
      (log: ReturnType<typeof createLog>) => log.error({ err: error }, 'it failed'),
      (log: ReturnType<typeof createLog>) => log.error({ reason: error, cause: new AggregateError([error], patient) }),
    ]) {
      const [line] = logged(write);
      assert.ok(!line.includes('Doe'), line);
      assert.ok(line.includes('ENOSPC') && line.includes('ParseError') && line.includes('telemetry.test.ts'), line);
    }
  });

  test('of our own errors code and message, and the causes below as above', () => {
    const line = one((log) =>
      log.warn(
        { err: new GantryError('no-space', 'the reserve is reached', { cause: new Error(patient) }) },
        'refused',
      ),
    ) as unknown as { err: { code: string; message: string; cause: { type: string } } };
    assert.deepEqual(Object.keys(line.err), ['code', 'message', 'cause']);
    assert.deepEqual(
      [line.err.code, line.err.message, line.err.cause.type],
      ['no-space', 'the reserve is reached', 'Error'],
    );
    assert.ok(!JSON.stringify(line).includes('Doe'));
  });

  test('children and placeholders', () => {
    const [line] = logged((log) =>
      log
        .child({ module: 'ingest', patientName: patient })
        .child({ requestId: 'r1', accessionNumber: patient })
        .info('stored %s', patient),
    );
    assert.ok(!line.includes('Doe'), line);
    assert.ok(line.includes('"module":"ingest"') && line.includes('"requestId":"r1"'));
  });

  test('long text is cut', () => {
    const [line] = logged((log) => log.info({ aeTitle: 'A'.repeat(100_000) }, 'x'));
    assert.ok(line.length < 1_500);
  });
});

test('a pretty line is one line that cannot steer the terminal', () => {
  const [line] = logged(
    (log) =>
      log
        .child({ module: 'gateway/dimse' })
        .warn({ callingAeTitle: '\x1b[2Jevil\n', err: new GantryError('no-permit', 'x\x07y') }, 'refused'),
    true,
  );
  assert.equal(line.split('\n').length, 2);
  assert.ok(!/\x1b(?!\[\d+m)|\x07/.test(line), JSON.stringify(line));
  assert.match(line, /gateway\/dimse.*refused.*no-permit: x\?y/);
  assert.match(prettyLine('{"level":"info","time":"2026-01-01T10:00:00.000Z"}'), /10:00:00/);
});
