import { type Command, EXIT, usage } from '../command.ts';
import { printable } from '../table.ts';

export const holdCommand: Command = {
  usage: 'STUDY [--reason TEXT] | STUDY --lift',
  summary: 'keep a study from being removed for good, or let it go again',
  text: `Nothing of a study on hold can be purged, and bytes that were purged before and are still there stay. It can be moved to the trash
and back as any other. \`gantry trash ls\` says which studies of the trash are on hold; the audit trail has who held and lifted.`,
  examples: [
    { line: "gantry hold 1.2.840.113619.2.1 --reason 'inquiry 12'", says: 'nothing of it is purged from now on' },
    { line: 'gantry hold 1.2.840.113619.2.1 --lift', says: 'it may go again' },
  ],
  options: {
    reason: { type: 'string', value: 'TEXT', doc: 'kept with the hold, up to 256 characters; no patient data' },
    lift: { type: 'boolean', doc: 'end the hold' },
  },
  takes: { least: 1, most: 1 },
  async run(house, given) {
    const study = given.positionals[0]!;
    const reason = given.text('reason');
    const lift = given.flag('lift');
    if (lift && reason !== undefined) throw usage('--reason goes with a hold, not with --lift');
    const path = `/api/v1/studies/${encodeURIComponent(study)}/hold`;
    const answer = lift
      ? await house.client.json<{ onHold: boolean }>('DELETE', path)
      : await house.client.json<{ onHold: boolean }>('PUT', path, reason === undefined ? {} : { reason });
    if (house.json) house.printJson(answer);
    else house.print(`study ${printable(study, 64)} is ${answer.onHold ? 'on hold' : 'not on hold any more'}\n`);
    return EXIT.ok;
  },
};
