import { parseAttributePath, tagOf } from '#dicom/tags.ts';
import { didYouMean } from '#platform/setting-values.ts';
import { type Command, EXIT, usage } from '../command.ts';
import { type Row, searchAll, searchPage, textOf } from '../dicomweb.ts';
import { type Column, plural, table } from '../table.ts';

const LIMIT = 100;
const LEVELS = { study: 'studies', series: 'series', instance: 'instances' } as const;
type Level = keyof typeof LEVELS;

/** What a person looks for, by level. */
const COLUMNS: Record<Level, readonly [keyword: string, title: string, right?: boolean][]> = {
  study: [
    ['StudyDate', 'DATE'],
    ['ModalitiesInStudy', 'MODALITY'],
    ['PatientID', 'PATIENT ID'],
    ['PatientName', 'PATIENT'],
    ['AccessionNumber', 'ACCESSION'],
    ['StudyDescription', 'DESCRIPTION'],
    ['NumberOfStudyRelatedInstances', 'INSTANCES', true],
    ['StudyInstanceUID', 'STUDY'],
  ],
  series: [
    ['Modality', 'MODALITY'],
    ['SeriesNumber', 'NO', true],
    ['SeriesDescription', 'DESCRIPTION'],
    ['NumberOfSeriesRelatedInstances', 'INSTANCES', true],
    ['SeriesInstanceUID', 'SERIES'],
    ['StudyInstanceUID', 'STUDY'],
  ],
  instance: [
    ['InstanceNumber', 'NO', true],
    ['Rows', 'ROWS', true],
    ['Columns', 'COLUMNS', true],
    ['NumberOfFrames', 'FRAMES', true],
    ['SOPClassUID', 'CLASS'],
    ['SOPInstanceUID', 'INSTANCE'],
    ['SeriesInstanceUID', 'SERIES'],
  ],
};

export const findCommand: Command = {
  usage: '[KEY=VALUE…] [--level study|series|instance]',
  summary: 'search studies, series or instances',
  text: `Keys are DICOM keywords or tags, matched as QIDO-RS does: * and ? in names and texts, FROM-TO for dates, an empty value
for any. Without keys: everything, the first ${LIMIT}. No match is no failure: the table is empty, --json gives [].`,
  examples: [
    { line: "gantry find 'PatientName=DOE*' StudyDate=20240101-", says: 'studies of a person since a day' },
    { line: 'gantry find --level series StudyInstanceUID=1.2.3', says: 'the series of a study' },
    {
      line: 'gantry find Modality=CT --include StudyTime --all --json',
      says: 'for a script: DICOM JSON, one study a line',
    },
  ],
  options: {
    level: { type: 'string', short: 'l', value: 'LEVEL', doc: 'study, series or instance (study)' },
    include: { type: 'string', value: 'KEY,…', doc: 'more attributes: columns of the table, fields of the JSON' },
    order: { type: 'string', value: 'KEY', doc: 'order by this attribute' },
    descending: { type: 'boolean', doc: 'with --order: from the last to the first' },
    limit: { type: 'string', value: 'N', doc: `at most so many, up to 10000 (${LIMIT})` },
    all: { type: 'boolean', doc: 'every match, page by page; --json gives one a line' },
    fuzzy: { type: 'boolean', doc: 'names that sound alike match too' },
  },
  takes: { least: 0, most: 256 },
  async run(house, given) {
    const level = (given.text('level') ?? 'study').toLowerCase();
    if (!Object.hasOwn(LEVELS, level)) throw usage('--level is study, series or instance');
    const query = new URLSearchParams();
    for (const positional of given.positionals) {
      const at = positional.indexOf('=');
      if (at < 1) throw usage('a key and a value, such as PatientID=4711');
      const name = positional.slice(0, at);
      query.append(attribute(name), positional.slice(at + 1));
    }
    const include = (given.text('include') ?? '')
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== '');
    const columns = COLUMNS[level as Level];
    for (const name of [...columns.map(([keyword]) => keyword), ...include])
      query.append('includefield', name === 'all' ? name : attribute(name));
    const order = given.text('order');
    if (order === undefined && given.flag('descending')) throw usage('--descending needs an --order');
    if (order !== undefined) query.set('orderby', `${given.flag('descending') ? '-' : ''}${attribute(order)}`);
    if (given.flag('fuzzy')) query.set('fuzzymatching', 'true');
    const path = LEVELS[level as Level];

    if (given.flag('all')) {
      const rows: Row[] = [];
      for await (const row of searchAll(house.client, path, query, house.signal)) {
        if (house.json) house.printJson(row);
        else rows.push(row);
      }
      if (!house.json) print(rows);
      return EXIT.ok;
    }
    const limit = given.count('limit', LIMIT, 10_000);
    query.set('limit', String(limit));
    const page = await searchPage(house.client, path, query, house.signal);
    for (const text of page.warnings) house.note(`${text}\n`);
    if (house.json) house.printJson(page.rows);
    else print(page.rows);
    if (page.cursor !== undefined && page.rows.length > 0)
      house.note(`There are more than ${page.rows.length}: --limit N, or --all\n`);
    return EXIT.ok;

    function print(rows: Row[]): void {
      if (rows.length === 0) {
        house.note(`no ${level} matches\n`);
        return;
      }
      const shown: Column<Row>[] = [
        ...columns,
        ...include.filter((name) => name !== 'all').map((name) => [name, name.toUpperCase()] as const),
      ].map(([keyword, title, right]) => ({
        title,
        right,
        max: title === 'DESCRIPTION' || title === 'PATIENT' ? 32 : 64,
        value: (row) => textOf(row, hex(keyword)),
      }));
      // A column that says nothing in any row only takes room.
      const filled = shown.filter((column) => rows.some((row) => column.value(row) !== ''));
      house.print(table(rows, filled));
      house.note(
        `${plural(rows.length, level, level === 'series' ? 'series' : level === 'study' ? 'studies' : 'instances')}\n`,
      );
    }
  },
};

/** As the server takes it; a misspelt keyword would be ignored there, and everything would match. */
function attribute(name: string): string {
  if (parseAttributePath(name) !== undefined) return name;
  const keywords = Object.values(COLUMNS).flatMap((rows) => rows.map(([keyword]) => keyword));
  const common = [
    ...keywords,
    'PatientBirthDate',
    'PatientSex',
    'StudyTime',
    'StudyID',
    'ReferringPhysicianName',
    'SeriesDate',
    'BodyPartExamined',
    'InstitutionName',
    'StationName',
  ];
  const meant = didYouMean(name, common);
  // The name is said only where it cannot be a value that slipped in.
  const shown = /^[A-Za-z]{1,64}$/.test(name) ? name : 'this';
  throw usage(`${shown} is no DICOM keyword or tag${meant === undefined ? '' : `; did you mean ${meant}?`}`);
}

function hex(keyword: string): string {
  const tag = tagOf(keyword) ?? parseAttributePath(keyword)?.[0] ?? 0;
  return tag.toString(16).toUpperCase().padStart(8, '0');
}
