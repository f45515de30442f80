import { StampClock } from '../../log/clock.ts';
import { layOutCommit } from '../../log/commit.ts';
import { segmentKey } from '../../log/names.ts';
import { sampleEntry } from '../../log/sample.testing.ts';
import { TRAILER } from '../../log/tar.ts';
import type { NewEntry } from '../../ports.ts';

/** The objects of a lane that holds one instance and was closed: a process that came, stored once, and went. */
export function closedLane(lane: string, number: number, tenant = 'main'): { key: string; bytes: Buffer }[] {
  const clock = new StampClock(() => Date.now() - 24 * 3_600_000 + number);
  const commits: NewEntry[] = [
    sampleEntry(Buffer.alloc(64, number), { sopInstanceUid: `1.2.826.0.1.2.${number}` }),
    { kind: { $case: 'closed', value: { reason: 'shutdown', by: lane } } },
  ];
  return commits.map((entry, i) => {
    const key = segmentKey(tenant, lane, i + 1);
    const origin = { tenant, lane, sequence: i + 1, object: key, offset: 0, previousToc: -1 };
    return { key, bytes: Buffer.concat([...layOutCommit(origin, [entry], () => clock.next()).buffers, TRAILER]) };
  });
}
