// Chapter 6. The quadratic neuron, and what it can bend
//
// At the end of this chapter you know which boundaries one neuron can draw: a linear one a straight line, a quadratic
// one a parabola or a hyperbola, and with a second product an ellipse. bend.svg shows it.
#include <cstdio>
#include <fstream>

#include "engine/core/random.h"
#include "engine/ops/binary.h"
#include "engine/ops/linear.h"
#include "engine/ops/quadratic_linear.h"
#include "engine/ops/reduce.h"
#include "engine/ops/unary.h"
#include "engine/tape/tape.h"
#include "optim/adamw.h"

using namespace parabola;

// z = sum_j (a_j x)(b_j x) + c x + d for points x = (u, v). The boundary z = 0 is a conic: one product of two straight
// lines gives what opens (parabola, hyperbola), never what closes; it takes two products, such as uu + vv, for that.
struct Neuron {
  Tensor a, b, c, d;
  explicit Neuron(int64_t products) {
    Random random({.seed = 6, .stream = Stream::initialization});
    const auto draw = [&](const Shape& shape) {
      const Tensor parameter = Tensor::empty(shape, DType::f32, Category::parameters);
      for (float& value : parameter.span<float>()) value = random.uniform(-1, 1);
      return parameter.set_requires_gradient(true);
    };
    c = draw({1, 2}), d = draw({1});
    if (products > 0) a = draw({products, 1, 2}), b = draw({products, 1, 2});
  }
  std::vector<Tensor> parameters() const { return a ? std::vector{a, b, c, d} : std::vector{c, d}; }
  Tensor operator()(const Tensor& points) const {
    return a ? quadratic_linear(points, c, d, a, b) : linear(points, c, d);
  }
};

struct Conic {
  const char* name;
  double (*inside)(double u, double v);  // positive on one side of the boundary
} const conics[] = {{"line", [](double u, double v) { return v - 0.5 * u - 0.1; }},
                    {"parabola", [](double u, double v) { return v - 1.5 * u * u + 0.5; }},
                    {"hyperbola", [](double u, double v) { return u * v - 0.05; }},
                    {"ellipse", [](double u, double v) { return 0.45 - u * u - 1.6 * v * v; }}};

struct Points {
  static constexpr int count = 300;
  Tensor x = Tensor::empty({count, 2}), side = Tensor::empty({count, 1});  // side: 1 or -1
  explicit Points(const Conic& conic) {
    Random random({.seed = 6, .stream = Stream::data});
    for (float& coordinate : x.span<float>()) coordinate = random.uniform(-1, 1);
    for (int i = 0; i < count; ++i) side.data<float>()[i] = conic.inside(x.at(2 * i), x.at(2 * i + 1)) > 0 ? 1 : -1;
  }
};

double trained_accuracy(const Neuron& neuron, const Points& points) {
  AdamW optimizer(neuron.parameters(), {.lr = 0.05});
  for (int step = 0; step < 400; ++step) {
    Tape tape;
    tape.backward(mean(square(tanh(neuron(points.x)) - points.side)));
    optimizer.step();
  }
  const Tensor z = neuron(points.x);
  double right = 0;
  for (int i = 0; i < Points::count; ++i) right += (z.at(i) > 0) == (points.side.at(i) > 0);
  return right / Points::count;
}

// One panel: what the neuron takes for its positive side, and over it the points in the colours of their own sides.
void draw(std::ostream& svg, int left, int top, const std::string& title, const Neuron& neuron, const Points& points) {
  constexpr int cells = 40, size = 160, cell = size / cells;
  const Tensor centres = Tensor::empty({cells * cells, 2});
  for (int i = 0; i < cells * cells; ++i) {
    const int row = i / cells, column = i % cells;
    centres.data<float>()[2 * i] = (column + 0.5F) * 2 / cells - 1;
    centres.data<float>()[2 * i + 1] = 1 - (row + 0.5F) * 2 / cells;
  }
  const Tensor z = neuron(centres);
  svg << "<g transform='translate(" << left << "," << top << ")'><text y='-6'>" << title << "</text>"
      << "<rect width='160' height='160' fill='#dcebf7'/><path fill='#fbe3d0' d='";
  for (int i = 0; i < cells * cells; ++i)
    if (z.at(i) > 0) svg << "M" << i % cells * cell << " " << i / cells * cell << "h4v4h-4z";
  svg << "'/>\n";
  for (int i = 0; i < Points::count; ++i)
    svg << "<circle r='2.2' fill='" << (points.side.at(i) > 0 ? "#d55e00" : "#0072b2") << "' cx='"
        << size * (1 + points.x.at(2 * i)) / 2 << "' cy='" << size * (1 - points.x.at(2 * i + 1)) / 2 << "'/>\n";
  svg << "</g>\n";
}

int main() {
  std::ofstream svg("bend.svg");
  svg.precision(4);
  svg << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 760 590' font-family='sans-serif' font-size='12' "
      << "fill='#222'><rect width='760' height='590' fill='white'/>\n";
  const char* kinds[] = {"linear", "1 product", "2 products"};
  std::printf("on the right side: %10s %10s %10s\n", kinds[0], kinds[1], kinds[2]);
  for (int i = 0; i < 4; ++i) {
    const Points points(conics[i]);
    std::printf("%-18s", conics[i].name);
    for (int products = 0; products < 3; ++products) {
      const Neuron neuron(products);
      std::printf(" %10.2f", trained_accuracy(neuron, points));
      draw(svg, 20 + 184 * i, 34 + 190 * products, concat(conics[i].name, ", ", kinds[products]), neuron, points);
    }
    std::printf("\n");
  }
  svg << "</svg>\n";
  std::printf("drawn in bend.svg\n");
}

// Exercise: which boundary do two parallel lines make, and how many products does it take? Add it to `conics`.

// Prints:
//   on the right side:     linear  1 product 2 products
//   line                     0.99       0.99       0.99
//   parabola                 0.76       0.99       0.99
//   hyperbola                0.78       1.00       1.00
//   ellipse                  0.69       0.76       1.00
//   drawn in bend.svg
