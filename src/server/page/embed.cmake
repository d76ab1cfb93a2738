# Makes one HTML answer from the files of the page, as a C++ source.
#
#   cmake -D PAGE=<folder> -D SOURCE=<page_html.cc> [-D HTML=<page.html> -D POLICY=<policy.txt>] -P embed.cmake
#
# index.html names its style and its scripts as for a server of files; both go to their places in it.
# HTML and POLICY are the same answer as files, for tests of the page without the server.

cmake_minimum_required(VERSION 3.25)

# base64_of_hex(<result> <hex>): the policy wants hashes in base64, CMake gives them in hexadecimal.
function(base64_of_hex result hex)
  set(alphabet ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)
  string(LENGTH ${hex} digits)
  set(text "")
  set(at 0)
  while(at LESS digits)
    string(SUBSTRING "${hex}" ${at} 6 part)
    string(LENGTH ${part} length)
    string(SUBSTRING "${part}0000" 0 6 part)
    math(EXPR bits "0x${part}")
    foreach(shift 18 12 6 0)
      math(EXPR index "(${bits} >> ${shift}) & 63")
      string(SUBSTRING ${alphabet} ${index} 1 character)
      string(APPEND text ${character})
    endforeach()
    math(EXPR at "${at} + 6")
  endwhile()
  # Characters that hold no bit of the input are padding.
  math(EXPR padding "(6 - ${length}) / 2")
  string(LENGTH ${text} size)
  math(EXPR size "${size} - ${padding}")
  string(SUBSTRING ${text} 0 ${size} text)
  string(REPEAT "=" ${padding} equals)
  set(${result} "${text}${equals}" PARENT_SCOPE)
endfunction()

function(hash_source result text)
  string(SHA256 hash "${text}")
  base64_of_hex(base64 ${hash})
  set(${result} "'sha256-${base64}'" PARENT_SCOPE)
endfunction()

file(READ ${PAGE}/index.html html)
file(READ ${PAGE}/style.css style)
set(style "\n${style}")
set(script "\n")
string(REGEX MATCHALL "<script src=\"[a-z_]+\\.js\"></script>\n" tags "${html}")
foreach(tag IN LISTS tags)
  string(REGEX REPLACE ".*\"(.*)\".*" "\\1" name "${tag}")
  file(READ ${PAGE}/${name} content)
  string(APPEND script "${content}")
  string(REPLACE "${tag}" "" html "${html}")
endforeach()
file(GLOB names RELATIVE ${PAGE} ${PAGE}/*.js)
foreach(name IN LISTS names)
  string(FIND "${tags}" "\"${name}\"" place)
  if(place EQUAL -1)
    message(FATAL_ERROR "${PAGE}/index.html does not name ${name}")
  endif()
endforeach()
# An end tag in a script or style would end it early.
if("${script}" MATCHES "</script" OR "${style}" MATCHES "</style")
  message(FATAL_ERROR "${PAGE}: a script or the style contains its own end tag")
endif()
string(REPLACE "<link rel=\"stylesheet\" href=\"style.css\">" "<style>${style}</style>" html "${html}")
string(REPLACE "</body>" "<script>${script}</script>\n</body>" html "${html}")

hash_source(script_hash "${script}")
hash_source(style_hash "${style}")
string(CONCAT policy
  "default-src 'none'; script-src ${script_hash}; style-src ${style_hash}; connect-src 'self'; img-src data:; "
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
  "require-trusted-types-for 'script'; trusted-types 'none'")

if(HTML)
  file(WRITE ${HTML} "${html}")
  file(WRITE ${POLICY} "${policy}")
endif()
if(SOURCE)
  string(HEX "${html}" hex)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" bytes "${hex}")
  # Lines of 100 bytes keep the source readable for tools.
  string(REPEAT "." 400 line)
  string(REGEX REPLACE "(${line})" "\\1\"\n    \"" bytes "${bytes}")
  file(WRITE ${SOURCE}
    "#include \"server/page/page.h\"\n\nnamespace restkv::server {\nnamespace {\n\n"
    "constexpr char kHtml[] =\n    \"${bytes}\";\n\n}  // namespace\n\n"
    "std::string_view page_html() { return {kHtml, sizeof kHtml - 1}; }\n\n"
    "std::string_view page_policy() {\n  return \"${policy}\";\n}\n\n}  // namespace restkv::server\n")
endif()
