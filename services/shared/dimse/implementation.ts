/**
 * Who we say we are in every association (PS3.7 §D.3.3.2): the same as in the file meta that `#dicom/part10.ts` writes, repeated here
 * because this library imports nothing. Fixed for ever.
 */
export const IMPLEMENTATION_CLASS_UID = '2.25.289740612574493813905216484316508720461';
export const IMPLEMENTATION_VERSION_NAME = 'GANTRY_0.1';
