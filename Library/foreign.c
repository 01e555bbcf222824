// SPDX-License-Identifier: Apache-2.0
//
// Swift's String has a second form, lent by Objective-C, with UTF-16 inside. It does not exist on
// Linux, but every append and every index asks whether it is there, and what follows that question
// is 10 KB that can never run. The standard library's functions are weak symbols in Embedded
// Swift: these are found first. Should a compiler rename one, the library works and grows, and
// Library/test says so.
#define FOREIGN(name, symbol) \
  __attribute__((noreturn, visibility("hidden"))) void name(void) __asm__(symbol); \
  void name(void) { __builtin_trap(); }

FOREIGN(utf8_count, "$eSS8UTF8ViewV13_foreignCountSiyF")
FOREIGN(utf8_after, "$eSS8UTF8ViewV13_foreignIndex5afterSS0D0VAF_tF")
FOREIGN(utf8_before, "$eSS8UTF8ViewV13_foreignIndex6beforeSS0D0VAF_tF")
FOREIGN(utf8_limited, "$eSS8UTF8ViewV13_foreignIndex_8offsetBy07limitedF0SS0D0VSgAG_SiAGtF")
FOREIGN(utf8_index, "$eSS8UTF8ViewV13_foreignIndex_8offsetBySS0D0VAF_SitF")
FOREIGN(utf8_distance, "$eSS8UTF8ViewV16_foreignDistance4from2toSiSS5IndexV_AGtF")
FOREIGN(utf8_byte, "$eSS8UTF8ViewV17_foreignSubscript8positions5UInt8VSS5IndexV_tF")
FOREIGN(grow, "$es11_StringGutsV12_foreignGrow33_408A76AB043BD3EFBAB6FAAAAA9B4914LLyySiF")
FOREIGN(copy, "$es11_StringGutsV16_foreignCopyUTF84intoSiSgSrys5UInt8VG_tF")
FOREIGN(align, "$es11_StringGutsV18foreignScalarAlignySS5IndexVAEF")
FOREIGN(append, "$es11_StringGutsV21_foreignAppendInPlace33_408A76AB043BD3EFBAB6FAAAAA9B4914LL"
  "yys01_aB5SliceVF")
FOREIGN(shrink, "$es11_StringGutsV24_foreignConvertedToSmall33_408A76AB043BD3EFBAB6FAAAAA9B4914LL"
  "s01_fA0VyF")
FOREIGN(convert, "$es11_StringGutsV27_slowEnsureMatchingEncodingySS5IndexVAEF")
FOREIGN(cstring, "$eSS16_slowUTF8CStrings15ContiguousArrayVys4Int8VGyF")
