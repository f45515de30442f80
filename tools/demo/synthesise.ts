// The demo's studies: three people who do not exist, made by computation (under a second, the same bytes on every machine).
//   node tools/demo/synthesise.ts FOLDER
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Element, latin1, part10, uidFor, utf8 } from './part10.ts';
import { crImage, ctSlice, mrSlice, pdf, usFrames } from './phantom.ts';

interface Person {
  id: string;
  name: string;
  birthDate: string;
  sex: string;
  /** Specific Character Set (0008,0005), and how its text becomes bytes. */
  characterSet: string;
  charset: (text: string) => Uint8Array;
}
interface Study {
  key: string;
  person: Person;
  date: string;
  time: string;
  description: string;
  accessionNumber: string;
}
interface Series {
  number: number;
  modality: string;
  description: string;
  sopClass: string;
}
export interface SampleFile {
  name: string;
  bytes: Uint8Array;
}

/** ISO 2022 IR 87 (PS3.5 §H.3.1): latin1 holds the escape sequences as they are written below. */
const YAMADA = 'Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B';

const PEOPLE = {
  ct: {
    id: 'DEMO-0001',
    name: 'Müller-Weiß^Jörg',
    birthDate: '19580312',
    sex: 'M',
    characterSet: 'ISO_IR 100',
    charset: latin1,
  },
  mr: {
    id: 'DEMO-0002',
    name: YAMADA,
    birthDate: '19710824',
    sex: 'M',
    characterSet: '\\ISO 2022 IR 87',
    charset: latin1,
  },
  us: {
    id: 'DEMO-0003',
    name: 'Παπαδοπούλου^Ελένη',
    birthDate: '19890105',
    sex: 'F',
    characterSet: 'ISO_IR 192',
    charset: utf8,
  },
} satisfies Record<string, Person>;

const STUDIES = {
  ct: {
    key: 'ct',
    person: PEOPLE.ct,
    date: '20260302',
    time: '091500',
    description: 'CT Thorax',
    accessionNumber: 'A26-1001',
  },
  mr: {
    key: 'mr',
    person: PEOPLE.mr,
    date: '20260303',
    time: '140210',
    description: 'MR Head',
    accessionNumber: 'A26-1002',
  },
  us: {
    key: 'us',
    person: PEOPLE.us,
    date: '20260304',
    time: '101045',
    description: 'Echo and chest film',
    accessionNumber: 'A26-1003',
  },
} satisfies Record<string, Study>;

const CT_SLICES = 30;
const MR_SLICES = 10;

/** Every sample, one after the other (the CT first, in the order of its slices). */
export function* samples(): Generator<SampleFile> {
  yield* ct();
  yield report();
  yield* mr();
  yield ultrasound();
  yield film();
}

function* ct(): Generator<SampleFile> {
  const size = 256;
  const series = { number: 2, modality: 'CT', description: 'Thorax 5.0', sopClass: '1.2.840.10008.5.1.4.1.1.2' };
  for (let i = 0; i < CT_SLICES; i++) {
    yield file(STUDIES.ct, series, i + 1, [
      ...picture({ rows: size, columns: size, bitsStored: 12, pixels: ctSlice(size, i / (CT_SLICES - 1), i) }),
      ...position('ct', size, 1.4, -300 + i * 5),
      ['00080008', 'CS', 'ORIGINAL\\PRIMARY\\AXIAL'],
      ['00180015', 'CS', 'CHEST'],
      ['00180050', 'DS', 5],
      ['00180060', 'DS', 120],
      ['00185100', 'CS', 'HFS'],
      ['00200012', 'IS', 1],
      ['00281050', 'DS', '40\\-600'],
      ['00281051', 'DS', '400\\1500'],
      ['00281052', 'DS', -1024],
      ['00281053', 'DS', 1],
      ['00281054', 'LO', 'HU'],
      ['00281055', 'LO', 'Soft tissue\\Lung'],
    ]);
  }
}

function report(): SampleFile {
  const document = pdf([
    'CT Thorax, 2 March 2026',
    '',
    'This is a sample. The patient does not exist and the pictures are computed.',
    'A round nodule in the right lung, segment 6, seen on five slices.',
  ]);
  const series = { number: 9, modality: 'DOC', description: 'Report', sopClass: '1.2.840.10008.5.1.4.1.1.104.1' };
  return file(STUDIES.ct, series, 1, [
    ['00080064', 'CS', 'SYN'],
    ['0008002A', 'DT', '20260302104500'],
    ['00080023', 'DA', '20260302'],
    ['00080033', 'TM', '104500'],
    ['00280301', 'CS', 'NO'],
    [
      '0040A043',
      'SQ',
      [
        [
          ['00080100', 'SH', '18748-4'],
          ['00080102', 'SH', 'LN'],
          ['00080104', 'LO', 'Diagnostic imaging study'],
        ],
      ],
    ],
    ['00420010', 'ST', 'CT Thorax: report'],
    ['00420011', 'OB', document],
    ['00420012', 'LO', 'application/pdf'],
    ['00420015', 'UL', document.length],
  ]);
}

function* mr(): Generator<SampleFile> {
  const size = 192;
  const series = { number: 3, modality: 'MR', description: 'T2 TSE tra', sopClass: '1.2.840.10008.5.1.4.1.1.4' };
  for (let i = 0; i < MR_SLICES; i++) {
    yield file(STUDIES.mr, series, i + 1, [
      ...picture({
        rows: size,
        columns: size,
        bitsStored: 12,
        pixels: mrSlice(size, 0.2 + (0.6 * i) / (MR_SLICES - 1), i),
      }),
      ...position('mr', size, 1.2, -40 + i * 8),
      ['00080008', 'CS', 'ORIGINAL\\PRIMARY\\M\\NONE'],
      ['00180015', 'CS', 'HEAD'],
      ['00180020', 'CS', 'SE'],
      ['00180021', 'CS', 'SK'],
      ['00180022', 'CS', ''],
      ['00180023', 'CS', '2D'],
      ['00180050', 'DS', 6],
      ['00180080', 'DS', 4200],
      ['00180081', 'DS', 98],
      ['00180087', 'DS', 1.5],
      ['00180091', 'IS', 12],
      ['00185100', 'CS', 'HFS'],
      ['00281050', 'DS', 900],
      ['00281051', 'DS', 1800],
    ]);
  }
}

function ultrasound(): SampleFile {
  const [columns, rows, frames] = [240, 180, 16];
  const series = { number: 1, modality: 'US', description: 'Apical view', sopClass: '1.2.840.10008.5.1.4.1.1.3.1' };
  return file(STUDIES.us, series, 1, [
    ...picture({ rows, columns, bitsStored: 8, pixels: usFrames(columns, rows, frames) }),
    ['00080008', 'CS', 'ORIGINAL\\PRIMARY\\CARDIAC'],
    ['00181063', 'DS', 50],
    ['00280008', 'IS', frames],
    ['00280009', 'AT', 0x00181063],
    ['00280014', 'US', 0],
    ['00282110', 'CS', '00'],
    ['00200020', 'CS', ''],
    ['00200060', 'CS', ''],
  ]);
}

function film(): SampleFile {
  const size = 512;
  const series = { number: 2, modality: 'CR', description: 'Chest PA', sopClass: '1.2.840.10008.5.1.4.1.1.1' };
  return file(STUDIES.us, series, 1, [
    ...picture({ rows: size, columns: size, bitsStored: 12, photometric: 'MONOCHROME1', pixels: crImage(size) }),
    ['00080008', 'CS', 'ORIGINAL\\PRIMARY'],
    ['00180015', 'CS', 'CHEST'],
    ['00185101', 'CS', 'PA'],
    ['00181164', 'DS', '0.7\\0.7'],
    ['00200020', 'CS', 'L\\F'],
    ['00281050', 'DS', 2200],
    ['00281051', 'DS', 3200],
  ]);
}

function file(study: Study, series: Series, instanceNumber: number, elements: Element[]): SampleFile {
  const { person } = study;
  const seriesKey = `${study.key}/${series.number}`;
  const all: Element[] = [
    ['00080005', 'CS', person.characterSet],
    ['00080016', 'UI', series.sopClass],
    ['00080018', 'UI', uidFor(`gantry/samples/${seriesKey}/${instanceNumber}`)],
    ['00080020', 'DA', study.date],
    ['00080021', 'DA', study.date],
    ['00080030', 'TM', study.time],
    ['00080031', 'TM', study.time],
    ['00080050', 'SH', study.accessionNumber],
    ['00080060', 'CS', series.modality],
    ['00080070', 'LO', 'Gantry samples'],
    ['00080080', 'LO', 'Gantry demo clinic'],
    ['00080090', 'PN', 'Referring^Ruth'],
    ['00081030', 'LO', study.description],
    ['0008103E', 'LO', series.description],
    ['00081090', 'LO', 'Computed phantom'],
    ['00100010', 'PN', person.name],
    ['00100020', 'LO', person.id],
    ['00100030', 'DA', person.birthDate],
    ['00100040', 'CS', person.sex],
    ['0020000D', 'UI', uidFor(`gantry/samples/${study.key}`)],
    ['0020000E', 'UI', uidFor(`gantry/samples/${seriesKey}`)],
    ['00200010', 'SH', study.key.toUpperCase()],
    ['00200011', 'IS', series.number],
    ['00200013', 'IS', instanceNumber],
  ];
  const name = `${seriesKey}/${String(instanceNumber).padStart(3, '0')}.dcm`;
  return { name, bytes: part10([...all, ...elements], person.charset) };
}

interface Picture {
  rows: number;
  columns: number;
  bitsStored: number;
  photometric?: string;
  pixels: Uint8Array;
}

/** The image pixel module (PS3.3 §C.7.6.3), one unsigned sample a pixel. */
function picture({ rows, columns, bitsStored, photometric, pixels }: Picture): Element[] {
  const wide = bitsStored > 8;
  return [
    ['00280002', 'US', 1],
    ['00280004', 'CS', photometric ?? 'MONOCHROME2'],
    ['00280010', 'US', rows],
    ['00280011', 'US', columns],
    ['00280100', 'US', wide ? 16 : 8],
    ['00280101', 'US', bitsStored],
    ['00280102', 'US', bitsStored - 1],
    ['00280103', 'US', 0],
    ['7FE00010', wide ? 'OW' : 'OB', pixels],
  ];
}

/** The image plane module (PS3.3 §C.7.6.2) of an axial slice, centred; what makes a stack of slices a volume. */
function position(key: string, size: number, spacing: number, z: number): Element[] {
  const corner = (-size * spacing) / 2;
  return [
    ['00200032', 'DS', [round(corner), round(corner), z]],
    ['00200037', 'DS', '1\\0\\0\\0\\1\\0'],
    ['00200052', 'UI', uidFor(`gantry/samples/${key}/frame-of-reference`)],
    ['00201040', 'LO', ''],
    ['00201041', 'DS', z],
    ['00280030', 'DS', `${spacing}\\${spacing}`],
  ];
}

const round = (mm: number) => Math.round(mm * 1000) / 1000;

/** Writes them all under `folder`. */
export function synthesise(folder: string): string[] {
  return [...samples()].map(({ name, bytes }) => {
    const path = join(folder, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, bytes);
    return path;
  });
}

if (import.meta.main) {
  const folder = process.argv[2];
  if (folder === undefined) {
    process.stderr.write('usage: node tools/demo/synthesise.ts FOLDER\n');
    process.exit(2);
  }
  process.stdout.write(`${synthesise(folder).length} files in ${folder}\n`);
}
