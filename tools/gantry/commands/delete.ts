import { refusalOf } from '../client.ts';
import { type Command, EXIT, usage } from '../command.ts';
import { confirm } from '../confirm.ts';
import { printable } from '../table.ts';

export const deleteCommand: Command = {
  usage: 'STUDY [--series UID [--instance UID]]',
  summary: 'move a study, series or instance to the trash',
  text: `It is found no more and can be restored (\`gantry trash restore\`) until it is purged. What arrives again is live again.`,
  examples: [
    { line: 'gantry delete 1.2.840.113619.2.1', says: 'asks, then deletes the study' },
    {
      line: "gantry delete 1.2.840.113619.2.1 --series 1.2.840.113619.2.1.3 --yes --reason 'sent twice'",
      says: 'for a script',
    },
  ],
  options: {
    series: { type: 'string', value: 'UID', doc: 'only this series' },
    instance: { type: 'string', value: 'UID', doc: 'only this instance (with --series)' },
    reason: { type: 'string', value: 'TEXT', doc: 'kept with the deletion, up to 256 characters; no patient data' },
    yes: { type: 'boolean', short: 'y', doc: 'do not ask' },
  },
  takes: { least: 1, most: 1 },
  async run(house, given) {
    const study = given.positionals[0]!;
    const [series, instance] = [given.text('series'), given.text('instance')];
    if (instance !== undefined && series === undefined) throw usage('--instance needs its --series');
    const what = instance === undefined ? (series === undefined ? 'study' : 'series') : 'instance';
    await confirm(house, `Move ${what} ${printable(instance ?? series ?? study, 64)} to the trash?`, given.flag('yes'));
    const path = [`studies/${encodeURIComponent(study)}`];
    if (series !== undefined) path.push(`series/${encodeURIComponent(series)}`);
    if (instance !== undefined) path.push(`instances/${encodeURIComponent(instance)}`);
    const reason = given.text('reason');
    const query = reason === undefined ? '' : `?reason=${encodeURIComponent(reason.slice(0, 256))}`;
    const answer = await house.client.request('DELETE', `/dicom-web/${path.join('/')}${query}`, {
      signal: house.signal,
    });
    if (answer.status >= 400) throw await refusalOf(answer);
    answer.body.resume();
    if (house.json) house.printJson({ deleted: true, level: what });
    else house.print(`in the trash: gantry trash restore ${printable(study, 64)} brings it back\n`);
    return EXIT.ok;
  },
};
