import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Charset, charsetOf, isDefinedTerm, type TextKind } from './charset.ts';

/** The oracle: right in 12 of 12 (architecture §6). It does not know ISO_IR 203 yet. */
const { convertBytes } = createRequire(import.meta.url)('dicom-character-set') as {
  convertBytes(charset: string, bytes: Uint8Array, options: { vr: string }): string;
};
const VR_OF: Record<TextKind, string> = { name: 'PN', multi: 'LO', text: 'LT' };

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

describe('decoding: the examples of PS3.5 Annexes H to K, and what senders do', () => {
  const cases: [string, string, string, string][] = [
    [
      'H.3.1',
      '\\ISO 2022 IR 87',
      'Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B',
      'Yamada^Tarou=山田^太郎=やまだ^たろう',
    ],
    [
      'H.3.2',
      'ISO 2022 IR 13\\ISO 2022 IR 87',
      '\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J',
      'ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう',
    ],
    [
      'I.2',
      '\\ISO 2022 IR 149',
      'Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf',
      'Hong^Gildong=洪^吉洞=홍^길동',
    ],
    [
      'I.2 without the repeated escapes',
      '\\ISO 2022 IR 149',
      'Hong^Gildong=\x1b$)C\xfb\xf3^\xd1\xce\xd4\xd7=\xc8\xab^\xb1\xe6\xb5\xbf',
      'Hong^Gildong=洪^吉洞=홍^길동',
    ],
    ['J.1', 'ISO_IR 192', Buffer.from('Wang^XiaoDong=王^小東=').toString('latin1'), 'Wang^XiaoDong=王^小東='],
    ['J.2', 'GB18030', 'Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=', 'Wang^XiaoDong=王^小东='],
    ['K.2', '\\ISO 2022 IR 58', 'Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=', 'Zhang^XiaoDong=张^小东='],
    [
      'a GBK character whose second byte is a backslash',
      'GBK',
      '\x81\x5c^A',
      '乗^A'.replace('乗', new TextDecoder('gbk').decode(bytes('\x81\x5c'))),
    ],
    [
      'a kanji half that looks like ^',
      '\\ISO 2022 IR 87',
      '\x1b$B0^\x1b(B^B',
      `${new TextDecoder('euc-jp').decode(bytes('\xb0\xde'))}^B`,
    ],
    ['two Latin sets', 'ISO 2022 IR 100\\ISO 2022 IR 144', 'Dionysios\xe9=\x1b-L\xbb\xee^\xe9', 'Dionysiosé=Лю^é'],
    ['C1 stays C1 in ISO_IR 100', 'ISO_IR 100', 'a\x80b\xe4', 'a\x80bä'],
    ['Thai', 'ISO_IR 166', '\xb9\xd2\xc2', 'นาย'],
    ['katakana', 'ISO_IR 13', '\xd4\xcf\xc0\xde^\xc0\xdb\xb3', 'ﾔﾏﾀﾞ^ﾀﾛｳ'],
    ['Latin-9', 'ISO_IR 203', '\xa4', '€'],
    ['JIS X 0212', '\\ISO 2022 IR 159', '\x1b$(D\x30\x21\x1b(B', '丂'],
    ['an unannounced escape sequence', '', '\x1b$B;3\x1b(B', '山'],
    ['an unknown escape sequence', 'ISO 2022 IR 6\\ISO 2022 IR 87', 'a\x1bZb', 'aZb'],
    ['ends within a kanji', '\\ISO 2022 IR 87', '\x1b$B;', '\ufffd'],
    ['UTF-8 without (0008,0005)', '', Buffer.from('Müller').toString('latin1'), 'Müller'],
    ['Latin-1 without (0008,0005)', '', 'M\xfcller', 'Müller'],
    ['a term that is none', 'ACME_CHARSET', 'M\xfcller', 'Müller'],
    ['senders’ spelling', 'iso ir 144', '\xbb\xee', 'Лю'],
    ['broken UTF-8', 'ISO_IR 192', 'a\xff', 'a\ufffd'],
  ];
  for (const [name, charset, value, text] of cases) {
    it(name, () => assert.equal(charsetOf(charset).decode(bytes(value), 'name'), text));
  }
  it('resets at a backslash in several values, not in one text; at ^ and = in names only', () => {
    const charset = charsetOf('ISO 2022 IR 6\\ISO 2022 IR 144\\ISO 2022 IR 100');
    const value = (delimiter: string): Buffer => bytes(`\x1b-A\xe9${delimiter}\xe9`);
    assert.equal(charset.decode(value('\\'), 'multi'), 'é\\é');
    assert.equal(charset.decode(value('\\'), 'text'), 'é\\é');
    const latin = charsetOf('ISO 2022 IR 100\\ISO 2022 IR 144');
    const russian = (delimiter: string): Buffer => bytes(`\x1b-L\xe9${delimiter}\xe9`);
    assert.equal(latin.decode(russian('\\'), 'multi'), 'щ\\é');
    assert.equal(latin.decode(russian('\\'), 'text'), 'щ\\щ');
    assert.equal(latin.decode(russian('^'), 'name'), 'щ^é');
    assert.equal(latin.decode(russian('^'), 'multi'), 'щ^щ');
    assert.equal(latin.decode(russian('\r\n'), 'text'), 'щ\r\né');
  });
});

const LATIN = [
  'ISO_IR 100',
  'ISO_IR 101',
  'ISO_IR 109',
  'ISO_IR 110',
  'ISO_IR 144',
  'ISO_IR 127',
  'ISO_IR 126',
  'ISO_IR 138',
  'ISO_IR 148',
  'ISO_IR 203',
  'ISO_IR 166',
];
const REPERTOIRES = [
  ...LATIN,
  'ISO_IR 13',
  'ISO_IR 192',
  'GB18030',
  'GBK',
  '\\ISO 2022 IR 87',
  'ISO 2022 IR 13\\ISO 2022 IR 87',
  '\\ISO 2022 IR 149',
  '\\ISO 2022 IR 58',
  '\\ISO 2022 IR 87\\ISO 2022 IR 159',
  'ISO 2022 IR 100\\ISO 2022 IR 144\\ISO 2022 IR 126\\ISO 2022 IR 101',
];

/** Characters that the set can carry, of all the scripts that DICOM names. */
const SCRIPTS = 'AZaz09 .,äöüßéñçĐłőŚĦĉĀģЖйяЂΑλωאבتعğşœŽ€นายｱﾔﾞ山田太郎やまだ髙丂홍길동洪吉王小東东张';
const textIn = (charset: Charset, delimiters: string) => {
  const usable = [...SCRIPTS].filter((c) => charset.canEncode(c));
  return fc.array(fc.constantFrom(...usable, ...delimiters), { maxLength: 30 }).map((a) => a.join(''));
};

describe('encoding', () => {
  for (const terms of REPERTOIRES) {
    it(`${terms} comes back, also in dicom-character-set`, () => {
      const charset = charsetOf(terms);
      for (const [kind, delimiters] of [
        ['name', '^=\\'],
        ['multi', '\\'],
        ['text', '\r\n'],
      ] as const) {
        fc.assert(
          fc.property(textIn(charset, delimiters), (text) => {
            const encoded = charset.encode(text, kind);
            assert.equal(charset.decode(encoded, kind), text);
            if (terms !== 'ISO_IR 203') assert.equal(convertBytes(terms, encoded, { vr: VR_OF[kind] }), text);
          }),
          { numRuns: 60 },
        );
      }
    });
  }
  it('writes PS3.5 H.3.1 as it stands there', () => {
    const text = 'Yamada^Tarou=山田^太郎=やまだ^たろう';
    assert.deepEqual(
      charsetOf('\\ISO 2022 IR 87').encode(text, 'name'),
      bytes('Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B'),
    );
  });
  it('says what it cannot carry', () => {
    assert.equal(charsetOf('ISO_IR 100').canEncode('Müller'), true);
    assert.equal(charsetOf('ISO_IR 100').canEncode('山田'), false);
    assert.equal(charsetOf(undefined).canEncode('Müller'), false);
    assert.equal(charsetOf('ISO_IR 192').canEncode('\ud800'), false);
    assert.equal(charsetOf('\\ISO 2022 IR 87').canEncode('홍'), false);
    assert.throws(() => charsetOf('ISO_IR 100').encode('山田'), { reason: 'not-encodable' });
    // GB18030 carries all of Unicode.
    for (const text of ['é', '😀', 'ä山홍'])
      assert.equal(charsetOf('GB18030').decode(charsetOf('GB18030').encode(text)), text);
  });
  it('knows every defined term', () => {
    for (const term of [
      ...LATIN,
      'ISO_IR 13',
      'ISO_IR 192',
      'GB18030',
      'GBK',
      'ISO 2022 IR 6',
      'ISO 2022 IR 87',
      'ISO 2022 IR 159',
      'ISO 2022 IR 149',
      'ISO 2022 IR 58',
    ]) {
      assert.equal(isDefinedTerm(term), true, term);
    }
    assert.equal(isDefinedTerm('ACME'), false);
  });
});

it('any bytes in any set decode without an error', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 60 }),
      fc.constantFrom(...REPERTOIRES, '', 'nonsense\\\\x'),
      fc.constantFrom('name', 'multi', 'text'),
      (value, terms, kind) => {
        assert.equal(typeof charsetOf(terms).decode(Buffer.from(value), kind), 'string');
      },
    ),
    { numRuns: 1000 },
  );
});
